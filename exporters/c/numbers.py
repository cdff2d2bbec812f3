"""Numbers as C spells them: every float32 exactly, whatever the compiler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.numerics.subnormal import flushed

PER_LINE = 8
"""Numbers of an initialiser in a line."""

Numbers = np.ndarray[Any, Any]
"""float32, or int32."""


def single(array: Any) -> Numbers:
    """Numbers in float32, as the reference interpreter has them: subnormal ones of an array are zero.

    Raises:
        Refusal: if one is too large.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise Refusal("it holds a number that float32 has no room for", "scale the network's numbers down")
    return flushed(values) if values.ndim else values


def literal(value: float) -> str:
    """One number, by the shortest decimal that means this float32 and no other."""
    text = str(single(value)[()])
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def table(values: Numbers) -> Iterator[str]:
    """Lines of an initialiser, in hexadecimal: `0x1.8p-3f` is 1.5 / 8."""
    whole = values.dtype.kind == "i"
    words = [str(value) if whole else _hexadecimal(value) for value in values.ravel().tolist()]
    for start in range(0, len(words), PER_LINE):
        yield f"    {', '.join(words[start : start + PER_LINE])},"


def _hexadecimal(value: float) -> str:
    mantissa, _, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}f"
