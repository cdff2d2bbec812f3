"""A few shapes as SVG text: small files that read well, in light and dark, here and on GitHub."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

Point = tuple[float, float]

_STYLE = """<style>
.drawing{--fg:#1f2733;--mute:#6b7686;--faint:#d8dee7;--card:#f4f6f9;--v:#2f6fd0;--r:#c8641b;--s:#13855c;--on:#cfe0fb}
@media (prefers-color-scheme:dark){.drawing{
--fg:#e6eaf1;--mute:#9aa6b8;--faint:#3d4656;--card:#232a36;--v:#7fb0ff;--r:#f0a15e;--s:#57c99a;--on:#2a4674}}
.drawing text{font:13px ui-sans-serif,system-ui,sans-serif;fill:var(--fg)}
.drawing .small{font-size:11px}.drawing .big{font-size:15px;font-weight:600}
.drawing .code{font-family:ui-monospace,monospace;font-size:12px}
</style>"""
"""The site says the same colours again, for its own switch between light and dark: assets/site.css."""


class Drawing:
    """Shapes on a canvas, in pixels from its upper left corner.

    Colours are names: fg, mute, faint, card, v (membrane), r (reset), s (spikes), on (what is lit).

    Args:
        width: of the canvas.
        height: of the canvas.
        title: what is seen, for those who do not see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {_n(width)} {_n(height)}" '
            f'width="{_n(width)}" role="img"><title>{escape(title)}</title>{_STYLE}'
        )
        self._shapes: list[str] = []

    def text(
        self, x: float, y: float, words: str, *, kind: str = "", colour: str = "fg", anchor: str = "start"
    ) -> None:
        """Words whose baseline is at y; anchor is start, middle or end; kind is small, big or code."""
        how = f' class="{kind}"' if kind else ""
        how += f' text-anchor="{anchor}"' if anchor != "start" else ""
        how += f' style="fill:var(--{colour})"' if colour != "fg" else ""
        self._shapes.append(f'<text x="{_n(x)}" y="{_n(y)}"{how}>{escape(words)}</text>')

    def line(self, points: Iterable[Point], *, colour: str = "fg", width: float = 1.5, dashed: bool = False) -> None:
        """Straight pieces from point to point."""
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        dash = ";stroke-dasharray:4 3" if dashed else ""
        self._shapes.append(
            f'<polyline points="{path}" style="fill:none;stroke:var(--{colour});stroke-width:{_n(width)}{dash}"/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str = "card", edge: str = "", radius: float = 0
    ) -> None:
        """A box; edge is the colour of its border."""
        border = f";stroke:var(--{edge})" if edge else ""
        self._shapes.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}" '
            f'style="fill:var(--{fill}){border}"/>'
        )

    def dot(self, x: float, y: float, radius: float = 3.5, *, colour: str = "s") -> None:
        """A filled circle."""
        self._shapes.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" style="fill:var(--{colour})"/>')

    def arrow(self, *points: Point, colour: str = "mute", dashed: bool = False) -> None:
        """A line with a head at its last point; its last piece is level or upright."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = _sign(x - x0), _sign(y - y0)
        self.line([*points[:-1], (x - 6 * dx, y - 6 * dy)], colour=colour, dashed=dashed)
        head = [(x, y), (x - 8 * dx - 4 * dy, y - 8 * dy - 4 * dx), (x - 8 * dx + 4 * dy, y - 8 * dy + 4 * dx)]
        path = " ".join(f"{_n(px)},{_n(py)}" for px, py in head)
        self._shapes.append(f'<polygon points="{path}" style="fill:var(--{colour})"/>')

    def box(self, x: float, y: float, width: float, height: float, words: str, below: str = "") -> None:
        """A room with its name, and what it is in small letters."""
        self.rect(x, y, width, height, edge="faint", radius=6)
        middle = x + width / 2
        self.text(middle, y + height / 2 + (5 if not below else -2), words, anchor="middle")
        if below:
            self.text(middle, y + height / 2 + 14, below, kind="small", colour="mute", anchor="middle")

    def svg(self) -> str:
        """The whole file."""
        return "\n".join([self._head, *self._shapes, "</svg>"]) + "\n"


def _n(number: float) -> str:
    """To a tenth of a pixel: the same file on every processor."""
    return f"{round(number, 1) + 0.0:g}"


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)
