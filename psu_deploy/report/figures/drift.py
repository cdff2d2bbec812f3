"""How far a number is from exact arithmetic, step by step, and how far it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psu_deploy.report.drift import Drift
from psu_deploy.report.figures.canvas import FIRST, LIMIT, QUIET, SECOND, draw, powers_of_ten, thinned, whole_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (FIRST, SECOND, QUIET)
"""Of the runs, in order."""


def draw_drift(key: str, drift: Drift, runs: list[str]) -> str:
    """The largest error of every step, for every run; the largest bound. Steps without any error are left out."""

    def plot(axes: Axes) -> None:
        assert drift.bound is not None
        steps = np.arange(len(drift.bound))
        dot = "." if len(steps) < 40 else ""
        at, bound = thinned(steps, drift.bound)
        axes.plot(at, _positive(bound), color=LIMIT, linewidth=1.4, linestyle="--", marker=dot, markersize=4)
        for run, colour in zip(runs, COLOURS, strict=False):
            if run in drift.errors:
                at, error = thinned(steps, drift.errors[run])
                axes.plot(at, _positive(error), color=colour, linewidth=1.2, marker=dot, markersize=5)
        _log(axes)
        axes.set_ylabel("error")
        axes.margins(x=0.02)
        whole_steps(axes)

    return draw(key, plot)


def _log(axes: Axes) -> None:
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn):
        powers_of_ten(axes, "y", float(drawn.min()) / 2, float(drawn.max()) * 2)


def _positive(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A logarithm has no zero."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)
