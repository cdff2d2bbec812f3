"""The sigmoid as fixed-point hardware does it, in whole numbers: shared by what trains with it and what deploys it.

`integer_sigmoid` is all of it; in real numbers, `S' = integer_sigmoid(floor(1024 E)) / 4096`. The product is exact in
floating point, so every form of a network finds the same place in the table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

VALUE_BITS = 12
"""S' is a multiple of 2^-12."""

ARGUMENT_BITS = 10
"""E is rounded down to a multiple of 2^-10."""

LIMIT = 8
"""Beyond [-8, 8) the end of the table holds."""

KNOT_SHIFT = 8
"""A straight piece is 2^8 arguments long, 0.25."""

PER_UNIT = 1 << ARGUMENT_BITS
FIRST, LAST = -LIMIT * PER_UNIT, LIMIT * PER_UNIT - 1
"""The smallest and the largest argument, in units of 2^-10."""

_PIECE = 1 << KNOT_SHIFT


def knots() -> Integers:
    """The values at the ends of the pieces, (65,), in units of 2^-12: `rint(4096 sigmoid(i/4 - 8))`."""
    arguments = np.arange(FIRST, LAST + 2, _PIECE) / PER_UNIT
    values: Integers = np.rint(2**VALUE_BITS / (1.0 + np.exp(-arguments))).astype(np.int64)
    return values


_KNOTS = knots()


def integer_sigmoid(z: Integers) -> Integers:
    """The sigmoid of `z / 1024` in units of 2^-12, by shifts, sums and one product of whole numbers.

        u = clip(z, -8192, 8191) + 8192,   i = u >> 8,   f = u & 255
        S' = K[i] + (((K[i + 1] - K[i]) f) >> 8),   K = knots()

    Args:
        z: int64, any size and shape; numbers beyond -8192..8191 count as these.
    """
    u = np.clip(z, FIRST, LAST) - FIRST
    piece, along = u >> KNOT_SHIFT, u & (_PIECE - 1)
    rise = _KNOTS[piece + 1] - _KNOTS[piece]
    value: Integers = _KNOTS[piece] + ((rise * along) >> KNOT_SHIFT)
    return value


def sup_error() -> float:
    """The largest distance to the sigmoid, over all real E, those beyond the table included.

    The table is constant between two arguments and the sigmoid rises, so it is reached at one of their ends.
    """
    ends = 1.0 / (1.0 + np.exp(-np.arange(FIRST, LAST + 2) / PER_UNIT))
    ends[0], ends[-1] = 0.0, 1.0  # the first and the last value hold for ever
    return float(max(np.abs(VALUES - ends[:-1]).max(), np.abs(VALUES - ends[1:]).max()))


VALUES = (integer_sigmoid(np.arange(FIRST, LAST + 1)) / 2**VALUE_BITS).astype(np.float32)
"""S' of every argument from the first to the last, (16384,); float32 holds 12 bits exactly."""
VALUES.setflags(write=False)
