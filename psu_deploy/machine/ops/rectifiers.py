"""Pointwise functions with numbers of their own that bend or cut a straight line: their slope is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, finite, freeze
from psu_deploy.machine.ops.functions import bounded_slope
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["ELU", "Clamp", "LeakyReLU", "PReLU", "Softplus"]


@op
class LeakyReLU(Layer):
    """`x` where x > 0, `slope * x` elsewhere.

    Args:
        slope: of the negative side.
    """

    slope: float

    def __post_init__(self) -> None:
        finite(self, "slope")

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return F.leaky_relu(inputs[0], self.slope)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        steepest = max(1.0, abs(self.slope))
        return bounded_slope(roundoff, inputs[0], steepest, lambda m: steepest * m)


@op
class PReLU(Layer):
    """A leaky ReLU with a learned slope for each channel, the first feature axis, or one for all.

    Args:
        slopes: (C,) or (1,).
    """

    slopes: Array

    def __post_init__(self) -> None:
        freeze(self, "slopes", 1)

    def output_shape(self, *inputs: Shape) -> Shape:
        count = len(self.slopes)
        if count != 1 and (not inputs[0] or inputs[0][0] != count):
            raise InputError(f"PReLU needs {count} channels, got shape {inputs[0]}")
        return inputs[0]

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        x = inputs[0]
        return torch.where(x > 0, x, self._per_channel(context.tensor(self.slopes), x) * x)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        steepest = self._per_channel(roundoff.sizes(np.maximum(np.abs(self.slopes), 1.0)), inputs[0])
        return roundoff.rounded(steepest * inputs[0], 1)

    @staticmethod
    def _per_channel(slopes: Tensor, x: Tensor) -> Tensor:
        return slopes.view(-1, *[1] * (x.ndim - 2)) if x.ndim > 1 else slopes


@op
class ELU(Layer):
    """`scale * x` where x > 0, `scale * alpha * (exp(rate * x) - 1)` elsewhere: ELU, SELU and CELU.

    Args:
        alpha: how far down it goes.
        scale: of all of it; 1 but for SELU.
        rate: > 0, how fast it goes down; 1 / alpha for CELU, else 1.
    """

    alpha: float
    scale: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "alpha", "scale", "rate")
        if self.rate <= 0:
            raise InputError(f"ELU.rate must be above 0, got {self.rate}; the negative side would grow without end")

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        x = inputs[0]
        return self.scale * torch.where(x > 0, x, self.alpha * torch.expm1(self.rate * x.clamp(max=0.0)))

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """An engine may compute exp(x) - 1, which is off by u beside 0 too."""
        scale, depth = abs(self.scale), abs(self.alpha)
        steepest = scale * max(1.0, depth * self.rate)
        return bounded_slope(
            roundoff, inputs[0], steepest, lambda m: scale * m.clamp(min=depth), lambda m: scale * (m + depth)
        )


@op
class Softplus(Layer):
    """`log(1 + exp(beta * x)) / beta`, and `x` where `beta * x > threshold`.

    Args:
        beta: not 0; the larger, the nearer to a ReLU.
        threshold: where the curve is left for the line; it jumps there, by 2e-9 at 20.
    """

    beta: float = 1.0
    threshold: float = 20.0

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        finite(self, "beta", "threshold")
        if self.beta == 0:
            raise InputError("Softplus.beta must not be 0: the function divides by it")

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return F.softplus(inputs[0], self.beta, self.threshold)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """The slope is at most 1; where rounding may decide between curve and line, their distance is an error too."""
        steep, height = abs(self.beta), 1 / abs(self.beta)
        pair = bounded_slope(roundoff, inputs[0], 1.0, lambda m: m + height, lambda m: m + height)
        magnitude, error = inputs[0].chunk(2)
        seen = (self.beta * context.exact[0] - self.threshold).to(roundoff.dtype)
        reach = steep * error + 4 * roundoff.unit * (steep * magnitude + abs(self.threshold)) + roundoff.tiny
        jump = height * F.softplus(roundoff.scalar(-self.threshold).double()).to(roundoff.dtype)
        own, bound = pair.chunk(2)
        return torch.cat([own, torch.where(seen.abs() > reach, bound, bound + jump)])


@op
class Clamp(Layer):
    """`min(max(x, low), high)`: a Hardtanh, a ReLU6.

    Args:
        low: None = no lower end.
        high: >= low; None = no upper end.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [name for name in ("low", "high") if getattr(self, name) is not None]
        finite(self, *ends)
        if not ends or (self.low is not None and self.high is not None and self.low > self.high):
            raise InputError(f"Clamp needs low <= high, and one of them at least; got {self.low} and {self.high}")

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].clamp(self.low, self.high)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """A cut makes an error smaller; its ends are rounded."""
        return bounded_slope(roundoff, inputs[0], 1.0, self._size)

    def _size(self, magnitude: Tensor) -> Tensor:
        """Never nearer to 0 than an end beyond it; never farther than the farther end."""
        low, high = self.low, self.high
        size = magnitude.clamp(min=max(0.0, low or 0.0, -(high or 0.0)))
        return size if low is None or high is None else size.clamp(max=max(abs(low), abs(high)))
