"""Magnitude and error side by side: the arithmetic that rounding bounds are made of.

A *pair* is a tensor of twice the batch: M, how large the terms of a sum are, and behind it E, how far off it may be.
What is linear in both goes through the layers of the machine itself, with absolute numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array
from psu_deploy.numerics.subnormal import smallest_normal

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
"""Half the distance from 1 to the next number."""

UNDERFLOW = {"float32": 2.0**-100, "float64": 2.0**-900}
"""Numbers below 2**-126 (2**-1022) lose bits, or become zero where the hardware flushes them. These are far above that,
so that the bounds themselves never get there, where arithmetic is slow too; and far below anything that matters."""

SAFETY = 2.0
"""For what a library does inside one operation: BatchNorm, for one, makes its scale and shift on the fly."""

SIGMOID_ERROR = 8.0
"""Error of a sigmoid in units of u; libraries reach 1 to 4."""


@dataclass(frozen=True)
class Arithmetic:
    """What an engine computes in other operations than the machine does. `SpikingNeuron` and `LIFNeuron` only.

    Attributes:
        reset_by_difference: a leaky reset of gain g is `R[t] = Q[t] - g*S'[t]`, `Q[t] = decay*Q[t-1] + g*S'[t]`,
            where the machine has `R[t] = decay*Q[t-1]`.
        remembers_margin: what is compared, with V_th or with a threshold of the staircase, is `old + (new - old)`, old
            being what was compared in the step before; of the size of the threshold at most before the first.
    """

    reset_by_difference: bool = False
    remembers_margin: bool = False


AS_THE_MACHINE = Arithmetic()
"""The operations of the machine, whatever the order of its sums."""


class Roundoff:
    """Adds roundings to pairs, in the precision that is judged.

    M and E are sums of positive terms, so they lose nothing to cancellation, and what they lose to rounding is a part
    of them as small as the unit roundoff, far inside `SAFETY`.

    Args:
        precision: of the arithmetic that is judged, "float32" or "float64".
        arithmetic: in which operations the judged run differs from the machine.
    """

    convolves_directly = False
    """Whether a convolution adds up its own products: by transforms, as on a GPU, it rounds where nothing fires too."""

    def __init__(self, precision: str, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.unit = SAFETY * UNIT_ROUNDOFF[precision]
        self.tiny = SAFETY * UNDERFLOW[precision]
        self.dtype = torch.float32 if precision == "float32" else torch.float64
        self._judged = self.dtype
        self._lost_counts = smallest_normal(self.dtype) / UNIT_ROUNDOFF[precision]
        self._tensors: dict[int, tuple[Array, Tensor]] = {}
        self._absolute: dict[int, tuple[Any, Any]] = {}
        self._compared: dict[str, Tensor] = {}

    def pair(self, value: Tensor) -> Tensor:
        """M = |value|, E = 0; a step counter, which has no axes, stays what it is."""
        if value.ndim == 0:
            return value
        own = value.to(self.dtype)
        return torch.cat([own.abs(), torch.zeros_like(own)])

    def tensor(self, array: Array) -> Tensor:
        """A constant in the judged precision. Cached by identity, with the array, so that no other gets its id.

        One that is subnormal there may be zero in the run that is judged, all of it an error. It counts as so large
        that one rounding of what it is multiplied with is no less.
        """
        if id(array) not in self._tensors:
            seen = torch.tensor(np.where(_lost(array, self._judged), self._lost_counts, array), dtype=self.dtype)
            self._tensors[id(array)] = (array, seen)
        return self._tensors[id(array)][1]

    def scalar(self, value: float) -> Tensor:
        """A number."""
        return torch.tensor(value, dtype=self.dtype)

    def emitted(self, context: Context) -> Tensor:
        """The spikes of a neuron layer, once the error of its margin is known: those that were told."""
        assert context.forced is not None, f"nobody says what layer {context.name!r} emits"
        return self.pair(context.forced)

    def sizes(self, array: Array) -> Tensor:
        """|array|."""
        return torch.tensor(np.abs(array), dtype=self.dtype)

    def absolute(self, layer: Any) -> Any:
        """The same layer, operator or estimator with absolute numbers and without its constant; cached as above."""
        if id(layer) not in self._absolute:
            self._absolute[id(layer)] = (layer, _absolute(layer, self._size))
        return self._absolute[id(layer)][1]

    def _size(self, value: float) -> float:
        """|value|; one that is subnormal counts as in `tensor`."""
        return self._lost_counts if 0 < abs(value) < smallest_normal(self._judged) else abs(value)

    def clipped(self, pair: Tensor, value: Tensor | None) -> Tensor:
        """What comes out is no larger than the exact value and its error, whatever it was summed of.

        Twice the error: the value is that of a run in float64, which may itself be what is judged.
        """
        magnitude, error = pair.chunk(2)
        assert value is not None, "what is clipped is known"
        return torch.cat([torch.minimum(magnitude, value.abs().to(self.dtype) + 2 * error), error])

    def rounded(self, pair: Tensor, terms: int | Tensor, offset: Tensor | None = None) -> Tensor:
        """Add the rounding of a sum of `terms` products and a constant: `(terms + 2) u M`."""
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
        """Add the rounding of a sum of products that is known: here as of any other.

        Args:
            pair: of the sum, without its constant.
            terms: products that are not exactly zero.
            value: the sum in exact arithmetic, where it is known.
            binary: whether every product is a weight or nothing.
            offset: |constant|.
            divisor: of a mean, by which the sum is divided in the end.
        """
        return self.rounded(pair, terms, offset)

    def divided(self, pair: Tensor, divisor: int) -> Tensor:
        """A mean, of a sum that is so many times as large; an overflow is seen in the run itself."""
        return pair

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """The pair of a product, rounded once for every factor and twice more."""
        return self.rounded(product(factors), len(factors))

    def with_error(self, pair: Tensor, roundings: int | Tensor, magnitude: Tensor) -> Tensor:
        """Add so many roundings of numbers of this magnitude."""
        own, error = pair.chunk(2)
        return torch.cat([own, error + roundings * (self.unit * magnitude + self.tiny)])

    def sigmoid(self, pair: Tensor, seen: Tensor | None = None) -> Tensor:
        """|sigmoid'| <= 1/4, and a sigmoid is at most 1; `seen` is what goes in, in exact arithmetic."""
        _, error = pair.chunk(2)
        return torch.cat([torch.ones_like(error), error / 4 + SIGMOID_ERROR * self.unit])

    def compared(self, name: str, pair: Tensor, threshold: float) -> Tensor:
        """Bound of the error of `sum - threshold`, what an engine compares with zero."""
        size = self.scalar(abs(threshold))
        return self.remembered(name, self.rounded(pair, 2, size), size).chunk(2)[1]

    def remembered(self, name: str, pair: Tensor, size: Tensor) -> Tensor:
        """With the rounding of an engine that computes what it compares with a threshold of that size from the last."""
        if not self.arithmetic.remembers_margin:
            return pair
        magnitude = pair.chunk(2)[0] + size
        before = self._compared.get(name, size)
        self._compared[name] = magnitude
        return self.with_error(pair, 4, magnitude + before)


def _lost(array: Array, dtype: torch.dtype) -> Any:
    """Where a constant is subnormal, but not zero."""
    return (array != 0) & (np.abs(array) < smallest_normal(dtype))


def product(pairs: Sequence[Tensor]) -> Tensor:
    """(M1 + E1)(M2 + E2) - M1 M2 is how far a product can be off."""
    magnitude, error = pairs[0].chunk(2)
    for factor in pairs[1:]:
        other, other_error = factor.chunk(2)
        error = magnitude * other_error + error * other + error * other_error
        magnitude = magnitude * other
    return torch.cat([magnitude, error])


def _absolute(layer: Any, size: Callable[[float], float]) -> Any:
    changed: dict[str, Any] = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.name in ("bias", "shift"):
            changed[field.name] = None if value is None or hasattr(layer, "weight") else 0 * value
        elif isinstance(value, np.ndarray):
            changed[field.name] = np.abs(value)
        elif isinstance(value, float):
            changed[field.name] = size(value)
        elif is_dataclass(value):
            changed[field.name] = _absolute(value, size)
    return replace(layer, **changed)
