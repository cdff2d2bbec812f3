"""How a difference spreads: how many decisions of every layer differ, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psu_deploy.report.differences import Counts
from psu_deploy.report.figures.canvas import INK, QUIET, WRONG, draw, whole_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_spread(key: str, flips: Counts) -> str:
    """One row per layer, the first at the top, numbered from 1; a dot's area is the number of decisions."""

    def plot(axes: Axes) -> None:
        counts = np.stack(list(flips.values()))
        layer, step = np.nonzero(counts)
        size = counts[layer, step] / counts.max()
        axes.scatter(step, layer + 1, s=6 + 90 * size, color=WRONG, alpha=0.65, linewidths=0)
        axes.set(ylim=(len(counts) + 0.6, 0.4), yticks=_some(len(counts)), ylabel="layer")
        axes.set_xlim(-0.5, counts.shape[1] - 0.5)
        first = int(step.min())
        axes.axvline(first, color=QUIET, linewidth=0.8, linestyle=":")
        axes.annotate(f"step {first}", (first, 0.45), (4, 0), textcoords="offset points", color=INK, fontsize=8)
        whole_steps(axes)

    return draw(key, plot, height=1.1 + 0.16 * min(16, len(flips)))


def _some(layers: int) -> list[int]:
    every = -(-layers // 12)
    return list(range(1, layers + 1, every))
