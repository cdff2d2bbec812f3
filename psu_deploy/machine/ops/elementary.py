"""Pointwise functions that are as steep as they like: exponentials, logarithms, powers.

How much an error of the input matters depends on the input, so their bounds see it. Such a function rises or falls on
either side of 0, so what an error E can make of it lies between its values at the ends of x - E .. x + E.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import finite, one_of
from psu_deploy.machine.ops.functions import FUNCTION_ERROR
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Elementary", "Power"]


class _Function(NamedTuple):
    """One function that only rises.

    Args:
        value: of every entry.
        above: where it is defined: x > above.
        rounded: from |f(x)| to what its own rounding is relative to.
    """

    value: Callable[[Tensor], Tensor]
    above: float
    rounded: Callable[[Tensor], Tensor]


def _beside_one(size: Tensor) -> Tensor:
    """A formula that adds or subtracts 1, or is 0 at 1, loses u there."""
    return size + 1.0


ELEMENTARY = {
    "exp": _Function(torch.exp, -torch.inf, lambda size: size),
    "expm1": _Function(torch.expm1, -torch.inf, _beside_one),
    "log": _Function(torch.log, 0.0, _beside_one),
    "log1p": _Function(torch.log1p, -1.0, _beside_one),
}
"""Kind -> what it computes."""


@op
class Elementary(Layer):
    """An exponential or a logarithm: `exp(x)`, `exp(x) - 1`, `log(x)` or `log(1 + x)`.

    Args:
        kind: "exp", "expm1", "log" or "log1p".
    """

    kind: str

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        one_of(self, "kind", tuple(ELEMENTARY))

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return ELEMENTARY[self.kind].value(inputs[0])

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        function, x = ELEMENTARY[self.kind], context.exact[0]
        reach = reach_of(inputs[0], x)
        value = function.value(x)
        carried = between(function.value, value, x, reach)
        inside = x - reach > function.above + (roundoff.tiny if self.kind == "log" else 0.0)
        own = FUNCTION_ERROR * roundoff.unit * function.rounded(value.abs())
        return known(value, carried + own, inside, roundoff)


@op
class Power(Layer):
    """`x ** exponent`: a square, a square root, a reciprocal.

    Without a value, NaN, where x < 0 and the exponent is no whole number.

    Args:
        exponent: a number that float32 has; 0 and tiny ones are told apart.

    Raises:
        InputError: if float32 does not have it.
    """

    exponent: float

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        finite(self, "exponent")
        with np.errstate(over="ignore"):
            held = np.float32(self.exponent)
        if not np.isfinite(held) or (self.exponent and not held):
            raise InputError(f"Power: exponent must be a number that float32 has, got {self.exponent!r}, there {held}")

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return self._value(inputs[0])

    def _value(self, x: Tensor) -> Tensor:
        return torch.pow(x, self.exponent)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        x = context.exact[0]
        reach = reach_of(inputs[0], x)
        value = self._value(x)
        carried = between(self._value, value, x, reach)
        own = power_roundings(self.exponent, x) * roundoff.unit * value.abs()
        return known(value, carried + own, self._defined(x, reach), roundoff)

    def _defined(self, x: Tensor, reach: Tensor) -> Tensor:
        """Whether there is a value at every number within reach."""
        if self.exponent >= 0:
            return x >= reach if self.exponent % 1 else torch.isfinite(reach)
        return x > reach if self.exponent % 1 else x.abs() > reach


def power_roundings(exponent: float, x: Tensor) -> Tensor:
    """Roundings of a power, relative to it: those of `exponent` products, or of an exponent times a logarithm."""
    logarithm = x.abs().clamp(min=torch.finfo(x.dtype).tiny).log().abs()
    return FUNCTION_ERROR + abs(exponent) * (1.0 + logarithm)


def reach_of(pair: Tensor, x: Tensor) -> Tensor:
    """How far off the input may be, in float64: its error, and the rounding of adding that to x."""
    error = pair.chunk(2)[1].double()
    return error + torch.finfo(x.dtype).eps * torch.where(error > 0, x.abs(), 0.0)


def between(function: Callable[[Tensor], Tensor], value: Tensor, x: Tensor, reach: Tensor) -> Tensor:
    """How far a function that rises or falls can get from f(x) when x is off by as much as `reach`."""
    return (function(x + reach) - value).abs().maximum((function(x - reach) - value).abs())


def known(value: Tensor, error: Tensor, inside: Tensor, roundoff: Roundoff) -> Tensor:
    """A pair; its error is infinite where the function may have no value, or one that comes near to an overflow."""
    certain = inside & (value.abs() < 1 / roundoff.tiny) & ~error.isnan()
    error = torch.where(certain, error, torch.inf) + roundoff.tiny
    return torch.cat([value.abs().nan_to_num(nan=torch.inf), error]).to(roundoff.dtype)
