"""What any evaluation in IEEE-754 binary32 may be off by; docs/proof.md derives every line of it.

A pair holds M, what no computed number is larger than, and E, how far off it may be: exact value and computed one
differ by E at most. Both are float64, so that their own rounding (2**-53) is far inside `Binary32.SLACK`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE, SIGMOID_ERROR, Roundoff

U = 2.0**-24
"""Unit roundoff of binary32, rounding to nearest."""

LARGEST = 2.0**100
"""Nothing is known of what is larger: a scalar of at most `GROWTH` may bring it near an overflow."""

GROWTH = 2.0**26
"""The largest leak, gain or other scalar behind which what underflows, 2**-126, is no more than what is counted."""

SLACK = 1.0 + 2.0**-20
"""For the bounds' own arithmetic, and for that of the exact run: float64, 2**29 times finer than what they bound."""

STEEPEST = 0.0963
"""The largest |sigmoid''| is 1/(6 sqrt(3)) = 0.09623: by so much the slope of a sigmoid changes at most."""


def gamma(roundings: Tensor | float) -> Tensor:
    """k u / (1 - k u), which k factors (1 + delta), |delta| <= u, or their reciprocals, differ from 1 by at most.

    Reference: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Lemma 3.1.
    """
    share = torch.as_tensor(roundings, dtype=torch.float64) * U
    return torch.where(share < 1, share / (1 - share), torch.inf)


def half_ulp(size: Tensor) -> Tensor:
    """Half the distance of neighbours just below a size, what rounding a number of that size loses at most."""
    mantissa, exponent = torch.frexp(size)
    return torch.ldexp((mantissa > 0).to(size.dtype) * (U / 2), exponent)


class Binary32(Roundoff):
    """Adds the roundings of any evaluation in binary32, whatever the order of its sums, fused or not.

    Attributes:
        assumed: layer -> decisions of this step that count as certain, (B, *features).
    """

    convolves_directly = True

    def __init__(self) -> None:
        super().__init__("float32", AS_THE_MACHINE)
        self.dtype = torch.float64
        self.assumed: dict[str, Tensor] = {}

    def pair(self, value: Tensor) -> Tensor:
        """What binary32 cannot hold is rounded where it enters; what is subnormal may be flushed to zero."""
        if value.ndim == 0:
            return value
        held = value.float().double()
        error = torch.where(value.abs() < torch.finfo(torch.float32).tiny, value.abs(), (held - value).abs())
        return torch.cat([value.abs() + error, error])

    def emitted(self, context: Context) -> Tensor:
        """A decision that is not certain is a spike or none: the other one is off by one."""
        assert context.told is not None, f"nobody says how layer {context.name!r} decides"
        assert context.forced is not None, f"nobody says what layer {context.name!r} emits"
        assert context.margin_error is not None, f"layer {context.name!r} says nothing about the error of its margin"
        doubt = uncertain(context.told.margin, context.margin_error)
        if context.name in self.assumed:
            doubt = doubt & ~self.assumed[context.name]
        return torch.cat([context.forced.maximum(doubt.double()), doubt.double()])

    def rounded(self, pair: Tensor, terms: int | Tensor, offset: Tensor | None = None) -> Tensor:
        """Every product is rounded twice, its constant and itself, and then as often as numbers are added."""
        magnitude, error = pair.chunk(2)
        magnitude = magnitude if offset is None else magnitude + offset
        return self.with_error(torch.cat([magnitude, error]), terms + 2, magnitude)

    def summed(
        self,
        pair: Tensor,
        terms: int | Tensor,
        value: Tensor | None,
        binary: bool,
        offset: Tensor | None = None,
        divisor: int = 1,
    ) -> Tensor:
        """No partial sum is larger than the sum of the positive terms, or of the negative: (M + |sum|)/2.

        Of a mean either sums or terms are divided, so what is rounded may be larger, but by u of its size at most.
        """
        assert value is not None, "the bound of a sum sees the sum"
        magnitude, error = pair.chunk(2)
        magnitude = magnitude if offset is None else magnitude + offset
        constants = gamma(1 if binary else 2)
        added = (torch.as_tensor(terms) - (1 if offset is None else 0)).clamp(min=0).double()
        partial = torch.minimum(magnitude, (magnitude + value.abs() + error) / 2)
        largest = partial + ((1 + constants) * (1 + gamma(added)) - 1) * magnitude
        each = half_ulp(SLACK * largest) if divisor == 1 else U * SLACK * largest
        pair = self._with(magnitude, error, constants * magnitude + added * each, terms + 2)
        return self.divided(pair, divisor)

    def divided(self, pair: Tensor, divisor: int) -> Tensor:
        """Nothing is known where the sum comes near an overflow."""
        magnitude, error = pair.chunk(2)
        return torch.cat([magnitude, torch.where(magnitude * divisor < LARGEST, error, torch.inf)])

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """Part of a product may overflow, or be lost, before the rest makes up for it."""
        magnitude, error = super().product(factors).chunk(2)
        parts = torch.ones_like(magnitude)
        for factor in factors:
            size, off = factor.chunk(2)
            parts = parts * (size + off).clamp(min=1.0)
        error = torch.where(parts < LARGEST, error + len(factors) * self.tiny * parts * (magnitude > 0), torch.inf)
        return torch.cat([magnitude, error])

    def _size(self, value: float) -> float:
        """What lets others grow so much could make up for a loss: nothing is known behind it."""
        size = super()._size(value)
        return size if size <= GROWTH else LARGEST**2

    def with_error(self, pair: Tensor, roundings: int | Tensor, magnitude: Tensor) -> Tensor:
        own, error = pair.chunk(2)
        return self._with(own, error, gamma(roundings) * magnitude, roundings)

    def _with(self, magnitude: Tensor, error: Tensor, own: Tensor, roundings: int | Tensor) -> Tensor:
        """A sum of zeros is zero; where terms may be subnormal, each operation may flush to zero besides."""
        own = torch.where((magnitude > 0) & (own >= 0), own + roundings * self.tiny, own)
        error = torch.where(magnitude < LARGEST, error + own, torch.inf)
        return torch.cat([magnitude + own, error])

    def sigmoid(self, pair: Tensor, seen: Tensor | None = None) -> Tensor:
        """Its slope is s (1 - s) where it is looked at, and changes by `STEEPEST` times the error at most."""
        _, error = pair.chunk(2)
        slope = torch.full_like(error, 0.25)
        if seen is not None:
            slope = (torch.sigmoid(seen) * torch.sigmoid(-seen) + STEEPEST * error).clamp(max=0.25)
        off = (slope * error).nan_to_num(nan=torch.inf).clamp(max=1.0) + SIGMOID_ERROR * U
        return torch.cat([1.0 + off, off])

    def compared(self, name: str, pair: Tensor, threshold: float) -> Tensor:
        """V - R - threshold in any order: the threshold is rounded, and two numbers are subtracted."""
        magnitude, error = pair.chunk(2)
        magnitude = magnitude + abs(threshold)
        return self._with(magnitude, error, gamma(2) * magnitude, 3).chunk(2)[1] * SLACK


def uncertain(margin: Tensor, bound: Tensor) -> Tensor:
    """Where a decision may fall either way: not where nothing is rounded; what is no number is not certain."""
    return ~((margin.abs() > bound) | (bound == 0))


def clipped(pair: Tensor, exact: Tensor) -> Tensor:
    """No number is larger than the exact one and its error."""
    error = torch.nan_to_num(pair.chunk(2)[1], nan=torch.inf, posinf=torch.inf)
    return torch.cat([exact.abs() + error, error])
