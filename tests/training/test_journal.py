"""What a run writes of its epochs: the numbers are those of the network, and the pictures are pictures."""

import csv
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.training.journal import FiringRates, read_table, table
from psu_deploy.training.pictures import draw_curves, draw_matrices

SVG = "{http://www.w3.org/2000/svg}svg"


def test_rates_are_spikes_per_step_and_neuron() -> None:
    net = psu.SpikingSequential(nn.Linear(3, 8), psu.PSU(threshold=0.2), nn.Linear(8, 4), psu.LIF(threshold=0.1))
    rates = FiringRates(net)
    inputs = [torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    rates.start()
    for x in inputs:
        net(x)
    seen = rates.stop()
    net(inputs[0])  # nobody looks any more
    net.requires_grad_(requires_grad=False)
    first = [psu.SpikingSequential(*list(net)[:2])(x).mean() for x in inputs]
    assert seen["1"] == pytest.approx(float(sum(first) / 2), abs=1e-6)
    assert seen["3"] == pytest.approx(float(sum(net(x).mean() for x in inputs) / 2), abs=1e-6)
    assert 0 < seen["1"] < 1
    assert rates.stop() == seen


def test_a_table_comes_back(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "loss": 0.1 + 0.2}, {"epoch": 1, "loss": 1e-30, "late": 3.0}]
    (tmp_path / "log.csv").write_text(table(rows))
    assert read_table(tmp_path / "log.csv") == rows


def test_the_log_of_a_run(trained: Any) -> None:
    with (trained.folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(trained.result.validation_accuracy, abs=1e-6)
    assert float(rows[-1]["learning_rate"]) == 0
    assert all(0 < float(row[name]) < 1 for row in rows for name in row if name.startswith("rate/"))
    assert sum(name.startswith("rate/") for name in rows[0]) == 2


def test_pictures(trained: Any, tmp_path: Path) -> None:
    for name in ("curves.svg", "matrices.svg"):
        assert ET.parse(trained.folder / name).getroot().tag == SVG
    rows = read_table(trained.folder / "log.csv")
    draw_curves(rows, tmp_path / "a.svg")
    draw_curves(rows, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_nothing_learned_no_picture(tmp_path: Path) -> None:
    assert not draw_matrices(psu.SpikingSequential(nn.Linear(2, 2), psu.PSU()), tmp_path / "matrices.svg")
    assert not list(tmp_path.iterdir())
