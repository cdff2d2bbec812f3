"""Where in a person's code a call stands."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

_OURS = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def source_line() -> str:
    """File and line of the innermost frame that is neither torch's nor of this room, such as `net.py:12`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_OURS, _TORCH)):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
