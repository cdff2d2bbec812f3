"""A run in pictures: how it went, and what the neurons learned along time. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from psu_deploy.files.atomic import write_whole
from psu_deploy.nn.neurons.base import SpikingUnit
from psu_deploy.nn.temporal import CausalMatrix, CausalOperator, Exponentials
from psu_deploy.nn.temporal.masked import MaskedMatrix
from psu_deploy.nn.temporal.window import SlidingWindow
from psu_deploy.training.journal import RATE, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNED = (CausalMatrix, MaskedMatrix, Exponentials, SlidingWindow)
"""Operators along time that have something to learn."""

_STEPS = 32
"""Of an operator that is defined for any number of steps."""


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Losses, accuracy and firing rates over the epochs, as SVG."""
    figure = _figure(11.0, 3.2)
    epochs = [row["epoch"] for row in rows]
    panels: dict[str, dict[str, str | None]] = {
        "loss": {"train_loss": "training", "val_loss": "validation"},
        "validation accuracy": {"val_accuracy": None},
        "firing rate": {name: name.removeprefix(RATE) for name in rows[-1] if name.startswith(RATE)},
    }
    for axes, (title, columns) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for column, label in columns.items():
            axes.plot(epochs, [row.get(column, np.nan) for row in rows], label=label, marker=".", markersize=3)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if any(columns.values()):
            axes.legend(frameon=False, fontsize="small")
    _save(figure, path)


def draw_matrices(network: nn.Module, path: Path) -> bool:
    """What was learned along time, one picture per learned operator, as SVG; False where nothing was."""
    learned = list(_learned(network))
    if not learned:
        return False
    figure = _figure(3.0 * len(learned), 3.0)
    for axes, (name, operator) in zip(figure.subplots(1, len(learned), squeeze=False)[0], learned, strict=True):
        matrix = operator.matrix(operator.horizon or _STEPS).numpy()
        largest = float(np.abs(matrix).max()) or 1.0
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set_title(name, fontsize="small")
        axes.set(xlabel="input of step", ylabel="output at step")
    _save(figure, path)
    return True


def _learned(network: nn.Module) -> Any:
    for name, module in network.named_modules():
        if isinstance(module, SpikingUnit):
            for part in ("integrate", "estimate"):
                operator: CausalOperator | None = getattr(module, part)
                shared = part == "estimate" and operator is module.integrate
                if isinstance(operator, LEARNED) and not shared:
                    yield f"{name}.{part}", operator


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="tight")


def _save(figure: Figure, path: Path) -> None:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "psu-deploy"}):  # the same run, the same file
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_whole(path, buffer.getvalue())
