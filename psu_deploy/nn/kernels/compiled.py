"""How functions are compiled for the CPU: outside the interpreter's lock, and kept on disk where there is room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# Numba's cache on disk looks neither at these nor at other files than a kernel's own: who changes them empties it.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def row(function: Callable[..., Any]) -> Any:
    """Compiled with those that call it: the innermost loop over a few hundred numbers, which becomes vectors."""
    return njit(**_OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compiled when it is first called, and kept on disk for the next process, where anything can be kept."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that can be written to, neither beside the source nor the user's own
        return njit(**_OPTIONS)(function)
