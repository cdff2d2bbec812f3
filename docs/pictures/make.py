"""Writes every picture of the documentation beside this file: python docs/pictures/make.py."""

from __future__ import annotations

from pathlib import Path

import concepts
import responses

HERE = Path(__file__).parent


def pictures() -> dict[str, str]:
    """File name -> SVG."""
    drawn = {f"{name}.svg": draw() for name, draw in concepts.PICTURES.items()}
    return drawn | {f"{name.lower()}.svg": responses.draw(name) for name in responses.NEURONS}


if __name__ == "__main__":
    for file, svg in pictures().items():
        (HERE / file).write_text(svg)
