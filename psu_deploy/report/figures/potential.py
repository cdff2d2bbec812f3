"""One neuron over time: V, what it must reach, R, and where it fired."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from psu_deploy.report.figures.canvas import FIRST, LIMIT, QUIET, RULE, SECOND, WRONG, draw, whole_steps
from psu_deploy.report.samples import Neuron

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_potential(key: str, neuron: Neuron) -> str:
    """V of both runs, one above the other where they agree; R and R + threshold in exact arithmetic."""

    def plot(axes: Axes) -> None:
        steps = neuron.first_step + np.arange(len(neuron.level))
        few = "." if len(steps) <= 40 else ""
        axes.axvline(neuron.t, color=WRONG if neuron.flipped else RULE, linewidth=5, alpha=0.35)
        if neuron.reset.any():
            axes.plot(steps, neuron.reset, color=QUIET, linewidth=0.9, linestyle=":")
        axes.plot(steps, neuron.level, color=LIMIT, linewidth=1.2, linestyle="--")
        looks: tuple[dict[str, Any], ...] = ({"color": FIRST, "linewidth": 3.0}, {"color": SECOND, "linewidth": 1.1})
        for line, look in zip(neuron.runs.values(), looks, strict=True):
            if line.potential is not None:
                axes.plot(steps, line.potential, marker=few, ms=5, **look)
        low, high = axes.get_ylim()
        for index, (line, look) in enumerate(zip(neuron.runs.values(), looks, strict=True)):
            fired = steps[line.spikes]
            height = high + (0.16 - 0.08 * index) * (high - low)
            axes.plot(fired, np.full(len(fired), height), "|", color=look["color"], ms=5, mew=1.5)
        axes.set_ylim(low, high + 0.22 * (high - low))
        axes.margins(x=0.02)
        whole_steps(axes)

    return draw(key, plot)


def has_reset(neurons: list[Neuron]) -> bool:
    """Whether R is drawn anywhere."""
    return any(chain.from_iterable(neuron.reset != 0 for neuron in neurons))
