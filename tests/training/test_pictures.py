"""What the pictures of a run show, read from the figure before it is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.training import pictures
from psu_deploy.training.pictures import draw_curves, draw_matrices


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those that were drawn; nothing is written."""
    drawn: list[Any] = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: drawn.append(figure))
    return drawn


def test_the_curves_are_the_columns(figures: list[Any]) -> None:
    first = {"epoch": 0.0, "train_loss": 3.0, "val_loss": 4.0, "val_accuracy": 0.1}
    last = {"epoch": 1.0, "train_loss": 2.0, "val_loss": 2.5, "val_accuracy": 0.6, "rate/a": 0.2}
    draw_curves([first, last], Path("curves.svg"))
    seen = [
        (axes.get_title(), axes.get_xlabel(), [(line.get_label(), list(line.get_ydata())) for line in axes.lines])
        for axes in figures[0].axes
    ]
    assert [axes.get_legend() is not None for axes in figures[0].axes] == [True, False, True]
    assert all(list(line.get_xdata()) == [0.0, 1.0] for axes in figures[0].axes for line in axes.lines)
    assert seen[0] == ("loss", "epoch", [("training", [3.0, 2.0]), ("validation", [4.0, 2.5])])
    assert (seen[1][0], [values for _, values in seen[1][2]]) == ("validation accuracy", [[0.1, 0.6]])
    assert seen[2][0] == "firing rate"
    ((label, rates),) = seen[2][2]
    assert label == "a"
    np.testing.assert_equal(rates, [np.nan, 0.2])  # it did not say so in the first epoch


def test_the_matrices_are_the_operators(figures: list[Any]) -> None:
    torch.manual_seed(0)
    masked, sliding, rpsu = psu.MaskedPSN(5), psu.SlidingPSN(3), psu.RPSU(6)
    for parameter in (*masked.parameters(), *sliding.parameters(), *rpsu.parameters()):
        nn.init.normal_(parameter)
    net = psu.SpikingSequential(nn.Linear(2, 2), masked, sliding, psu.PSU(), rpsu)
    assert draw_matrices(net, Path("matrices.svg")) is True
    panels = [axes for axes in figures[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["1.integrate", "2.integrate", "4.estimate"]
    operators = (masked.integrate, sliding.integrate, rpsu.estimate)
    for axes, operator, steps in zip(panels, operators, (5, 32, 6), strict=True):
        (image,) = axes.images
        matrix = operator.matrix(steps).numpy()
        np.testing.assert_array_equal(image.get_array(), matrix)
        largest = np.abs(matrix).max()
        assert image.get_clim() == pytest.approx((-largest, largest))  # white is zero
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("input of step", "output at step")


def test_a_matrix_of_zeros_is_a_picture_too(figures: list[Any]) -> None:
    neuron = psu.MaskedPSN(4)
    nn.init.zeros_(neuron.integrate.weight)
    assert draw_matrices(psu.SpikingSequential(neuron), Path("matrices.svg"))
    assert figures[0].axes[0].images[0].get_clim() == (-1.0, 1.0)


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    """Whatever the hour, and however often something was drawn before."""
    rows = [{"epoch": 0.0, "train_loss": 3.0, "val_loss": 4.0, "val_accuracy": 0.1, "rate/a": 0.2}]
    for name in ("a", "b"):
        draw_curves(rows, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"dc:date" not in (tmp_path / "a").read_bytes()
