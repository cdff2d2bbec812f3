"""What all pictures share: a small axes without clutter, and SVG that a page can hold in light and in dark.

Nothing of a caller's is ever drawn: names stand in the page's captions, where they are escaped.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, RULE, FIRST, SECOND, WRONG, LIMIT, OPEN = (f"#0a0a{number:02x}" for number in range(1, 9))
"""Stand-ins that matplotlib draws with; the page has the colours."""

_VARIABLES = {
    INK: "ink", QUIET: "quiet", RULE: "rule", FIRST: "first", SECOND: "second", WRONG: "wrong", LIMIT: "limit",
    OPEN: "open",
}  # fmt: skip

_LOOK: dict[str, Any] = {
    "svg.hashsalt": "psu-deploy",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}

_LEFT, _BELOW, _MARGIN = 0.52, 0.42, 0.1
"""Inches around the axes: the same in all pictures, so that they stand in line."""

_HEAD = re.compile(r"^.*?(?=<svg)", re.S)
_STYLE = re.compile(r"<style.*?</style>", re.S)
_SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"')
_FONT = re.compile(r"font-family: [^;\"]*;? ?")
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_PATH = re.compile(r'(?<= d=")[^"]*')
_ID = re.compile(r' id="([^"]*)"')
_USED = re.compile(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"")


def draw(key: str, plot: Any, width: float = 3.5, height: float = 2.1) -> str:
    """An SVG of what `plot(axes)` draws, the same for the same data.

    Args:
        key: of this picture on the page, letters and digits: its ids begin with it.
        plot: gets the axes.
        width: in inches; the page scales it.
        height: in inches.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib, figures = require("matplotlib", "report"), require("matplotlib.figure", "report")
    buffer = io.BytesIO()
    with matplotlib.rc_context(_LOOK):
        figure: Figure = figures.Figure(figsize=(width, height))
        figure.subplots_adjust(
            left=_LEFT / width, right=1 - _MARGIN / width, top=1 - _MARGIN / height, bottom=_BELOW / height
        )
        figure.patch.set_visible(False)
        axes: Axes = figure.subplots()
        axes.patch.set_visible(False)
        plot(axes)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return for_page(buffer.getvalue().decode(), key)


def for_page(svg: str, key: str) -> str:
    """What matplotlib writes, as a part of a page: small, in the page's colours and font, its ids its own."""
    svg = _SIZE.sub(r'\1 aria-hidden="true" focusable="false"', _STYLE.sub("", _HEAD.sub("", svg)), count=1)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_short, _FONT.sub("", tag[0])), svg)
    svg = _PATH.sub(lambda path: re.sub(r"\s*([A-Za-z])\s*", r"\1", " ".join(path[0].split())), svg)
    used = {name for pair in _USED.findall(svg) for name in pair if name}
    svg = _ID.sub(lambda one: f' id="{key}-{one[1]}"' if one[1] in used else "", svg)
    svg = _USED.sub(lambda one: one[0].replace("#", f"#{key}-"), svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r">\s+<", "><", svg).strip()


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def thinned(steps: NDArray[Any], *rows: NDArray[Any], most: int = 400) -> tuple[NDArray[Any], ...]:
    """Rows over many steps, by the largest of every stretch: (steps, *rows), each at most `most` long."""
    if len(steps) <= most:
        return (steps, *rows)
    edges = np.linspace(0, len(steps), most + 1).astype(int)[:-1]
    return (steps[edges], *(np.maximum.reduceat(row, edges) for row in rows))


def powers_of_ten(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from one number to another, with a tick at a few powers of ten."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    powers = range(first, last + 1, 1 + max(0, last - first) // 5)
    axis.set_ticks([10.0**power for power in powers], labels=[_power(power) for power in powers])
    axis.set_ticks([], minor=True)


def _power(power: int) -> str:
    return f"1e{power}" if abs(power) > 2 else f"{10.0**power:g}"


def whole_steps(axes: Axes) -> None:
    """Ticks at whole steps only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlabel("step")
