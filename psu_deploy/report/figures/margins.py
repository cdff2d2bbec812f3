"""How far the decisions of a layer are from their threshold, and how far rounding reaches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from psu_deploy.report.figures.canvas import FIRST, LIMIT, OPEN, draw, powers_of_ten
from psu_deploy.report.margins import BINS, LOWEST, PER_DECADE, Margins

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_margins(key: str, margins: Margins) -> str:
    """A histogram of |margin|, both axes logarithmic; a band from the smallest to the largest bound."""

    def plot(axes: Axes) -> None:
        edges = 10.0 ** (LOWEST + np.arange(BINS + 1) / PER_DECADE)
        filled = np.flatnonzero(margins.sure + margins.open)
        low, high = margins.bounds
        if math.isfinite(high) and high > 0:
            axes.axvspan(max(low, high / 1e3, edges[0]), high, color=LIMIT, alpha=0.22, linewidth=0)
            axes.axvline(high, color=LIMIT, linewidth=1.4)
        axes.stairs(margins.sure + margins.open, edges, fill=True, color=OPEN, baseline=0.5)
        axes.stairs(margins.sure, edges, fill=True, color=FIRST, baseline=0.5)
        places = [edges[filled[0]], edges[filled[-1] + 1], *([high] if 0 < high < math.inf else [])]
        powers_of_ten(axes, "x", min(places) / 2, max(places) * 2)
        powers_of_ten(axes, "y", 0.7, 2 * float((margins.sure + margins.open).max()))
        axes.set(xlabel="|V − R − V_th|", ylabel="decisions")  # noqa: RUF001  a minus sign

    return draw(key, plot)
