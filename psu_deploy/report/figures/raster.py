"""The spikes of one run: a mark where a neuron fires, another where it should not have, or should have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.report.figures.canvas import FIRST, WRONG, draw, whole_steps
from psu_deploy.report.samples import Raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_raster(key: str, raster: Raster, run: str) -> str:
    """Time to the right, one row per neuron."""

    def plot(axes: Axes) -> None:
        spikes = raster.spikes[run]
        steps, rows = spikes.shape
        width = 0.6 * 3.0 * 72 / max(steps, 8)  # points: a little less than a step
        _marks(axes, raster, spikes, color=FIRST, linewidth=width)
        if run in raster.flips:
            _marks(axes, raster, spikes & raster.flips[run], color=WRONG, linewidth=width)
            _rings(axes, raster, raster.flips[run])
        axes.set(xlim=(raster.first_step - 0.6, raster.first_step + steps - 0.4), ylim=(rows - 0.4, -0.6))
        axes.set(yticks=[], ylabel="neurons")
        axes.spines["left"].set_visible(False)
        whole_steps(axes)

    return draw(key, plot)


def _marks(axes: Axes, raster: Raster, spikes: NDArray[np.bool_], **look: Any) -> None:
    """All marks as one path, which is small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    t, row = np.nonzero(spikes)
    if not len(t):
        return
    x = t + raster.first_step
    points = np.stack([np.stack([x, row - 0.38], 1), np.stack([x, row + 0.38], 1)], 1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(t))
    axes.add_patch(PathPatch(Path(points, codes), fill=False, capstyle="butt", **look))


def _rings(axes: Axes, raster: Raster, flips: NDArray[np.bool_]) -> None:
    t, row = np.nonzero(flips)
    axes.plot(t + raster.first_step, row, "o", mfc="none", mec=WRONG, mew=1.4, ms=8, clip_on=False)
