"""How functions are compiled for the CPU: outside the interpreter's lock, and kept on disk where there is room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from numba import njit
from numba.extending import intrinsic

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def _version() -> str:
    """Of all that is compiled here, and how."""
    here = Path(__file__)
    sources = [here, here.with_name("codes.py"), *sorted(here.parent.glob("numba_*.py"))]
    return f"{crc32(b''.join(path.read_bytes() for path in sources)):08x}"


_VERSION = _version()


def instruction(function: Callable[..., Any]) -> Any:
    """An instruction of the processor."""
    return intrinsic(function)


def row(function: Callable[..., Any]) -> Any:
    """Compiled with those that call it: the innermost loop over a few hundred numbers, which becomes vectors."""
    return njit(**_OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiled when it is first called, and kept on disk for the next process, where anything can be kept."""
    # Numba looks whether the file of a kernel has changed, and not what it imports: the name of the copy on disk does.
    function.__qualname__ += f"_{_VERSION}"
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that can be written to, neither beside the source nor the user's own
        return njit(**_OPTIONS)(function)
