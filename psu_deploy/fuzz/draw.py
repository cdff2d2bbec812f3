"""Random numbers: whole ones, choices, weights. All that is drawn follows from the seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Choice = TypeVar("Choice")

GRID = 4
"""Exact numbers are multiples of 1/4: few bits, so that sums of their products are not rounded in float32."""

_LARGEST = 4
"""Of an exact weight, in 1/4."""


class Draw:
    """A stream of random numbers.

    Args:
        seed: of the stream, one number or several.
        exact: reals are small multiples of 1/4.
    """

    def __init__(self, seed: int | Sequence[int], exact: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.exact = exact

    def whole(self, low: int, high: int) -> int:
        """low .. high, both included."""
        return int(self.random.integers(low, high + 1))

    def one(self, choices: Iterable[Choice]) -> Choice:
        """One of several."""
        found = list(choices)
        return found[self.whole(0, len(found) - 1)]

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.random.random() < share)

    def some(self, count: int) -> tuple[int, ...]:
        """Different axes of so many, at least one."""
        chosen = self.random.permutation(count)[: self.whole(1, count)]
        return tuple(int(n) for n in chosen)

    def real(self, low: float, high: float) -> float:
        """low .. high."""
        found = float(self.random.uniform(low, high))
        return min(max(round(found * GRID) / GRID, low), high) if self.exact else found

    def standard(self, *shape: int) -> Array:
        """Numbers of size 1."""
        if self.exact:
            return self.random.integers(-_LARGEST, _LARGEST + 1, shape) / GRID
        return np.asarray(self.random.standard_normal(shape))

    def normal(self, *shape: int) -> Array:
        """Weights that neither shrink nor blow up what goes in."""
        return self.standard(*shape) if self.exact else self.standard(*shape) / max(1.0, prod(shape[1:])) ** 0.5

    def maybe(self, *shape: int) -> Any:
        """Numbers, or None."""
        return self.standard(*shape) if self.whole(0, 1) else None

    def pairs(self, axes: int, most: int = 1) -> tuple[tuple[int, int], ...]:
        """Padding before and after every axis."""
        return tuple((self.whole(0, most), self.whole(0, most)) for _ in range(axes))

    def sizes(self, axes: int, most: int) -> tuple[int, ...]:
        """1 .. most for every axis."""
        return tuple(self.whole(1, most) for _ in range(axes))
