"""What divides the numbers of a sample by their own size: LayerNorm, RMSNorm, GroupNorm.

A variance is the mean of the squared deviations, computed from the deviations, all at once or number by number
(Welford). An engine that subtracts the squared mean from the mean square loses all digits where the mean is large
(Chan, Golub and LeVeque 1983), and no bound here has room for that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.elementary import known
from psu_deploy.machine.ops.fields import LARGEST, Array, Shape, finite, freeze, whole_numbers
from psu_deploy.machine.ops.functions import FUNCTION_ERROR
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.numerics.checks import is_whole
from psu_deploy.numerics.subnormal import smallest_normal

__all__ = ["GroupNorm", "LayerNorm", "RMSNorm"]


class _Normalisation(Layer):
    """Base of what divides numbers by their own size, row by row."""

    bound_sees_inputs = True
    centred = True
    """Whether the mean of a row is subtracted first."""

    eps: float
    weight: Array | None
    bias: Array | None = None

    @abstractmethod
    def _rows(self, x: Tensor) -> Tensor:
        """(B, *features) -> (B, rows, n)."""

    def _beside(self, constant: Tensor, x: Tensor) -> Tensor:
        """Weight or bias, in a shape that goes with (B, *features)."""
        return constant

    def workspace(self, *inputs: Shape) -> int:
        """The deviations and their squares."""
        return 2 * prod(inputs[0])

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        y = self._normalised(inputs[0])
        y = y if self.weight is None else y * self._beside(context.tensor(self.weight), y)
        return y if self.bias is None else y + self._beside(context.tensor(self.bias), y)

    def _normalised(self, x: Tensor) -> Tensor:
        deviation = self._deviation(self._rows(x))
        size = (deviation.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return (deviation / size).reshape(x.shape)

    def _deviation(self, rows: Tensor) -> Tensor:
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """See `_normalised_error`; then a product and a sum."""
        x = context.exact[0]
        rows, error = self._rows(x), self._rows(inputs[0].chunk(2)[1].double())
        bound, sure = (found.reshape(x.shape) for found in self._normalised_error(rows, error, roundoff))
        size = self._normalised(x).abs()
        if self.weight is not None:
            weight = self._beside(torch.tensor(np.abs(self.weight)), x)
            size, bound = size * weight, bound * weight
        if self.bias is not None:
            size = size + self._beside(torch.tensor(np.abs(self.bias)), x)
        return known(size, bound + 4 * roundoff.unit * size, sure, roundoff)

    def _normalised_error(self, rows: Tensor, error: Tensor, roundoff: Roundoff) -> tuple[Tensor, Tensor]:
        """How far off `d / sqrt(v + eps)` may be, and whether anything is known of it at all.

        d is off by the errors of x and of the mean, v by `2 sqrt(v) e + e**2`, e being the root mean square of that of
        d, and by the rounding of its own sum; 1 / sqrt falls, so the ends of v say how far off it is.
        """
        n, u = rows.shape[-1], roundoff.unit
        d, d_error = self._deviation(rows), error
        if self.centred:
            mean_error = _mean(error) + (n + 2) * u * _mean(rows.square()).sqrt()
            d_error = error + mean_error + 4 * u * (rows.abs() + _mean(rows).abs())
        v, e2 = _mean(d.square()), _mean(d_error.square())
        v_error = 2 * (v * e2).sqrt() + e2 + (n + 4) * u * (v + e2) + roundoff.tiny
        factor, least = (v + self.eps).rsqrt(), (v - v_error).clamp(min=0.0) + self.eps
        most = least.rsqrt()
        off = (most - factor).maximum(factor - (v + v_error + self.eps).rsqrt()) + FUNCTION_ERROR * u * most
        own = 4 * u * (d.abs() + d_error) * (factor + off)
        sure = (least > 0) & (n * (v + v_error) < 1 / roundoff.tiny)
        return d.abs() * off + d_error * (factor + off) + own, sure.expand_as(rows)


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(-1, keepdim=True)


def _check(layer: LayerNorm | RMSNorm | GroupNorm, shape: Shape, *names: str) -> None:
    """Check eps, and that weight and bias, where there are any, have one number for each place of a shape."""
    finite(layer, "eps")
    if layer.eps < 0:
        raise InputError(f"{type(layer).__name__}.eps must be 0 or more, got {layer.eps}")
    if 0 < layer.eps < smallest_normal(torch.float32):
        raise InputError(f"{type(layer).__name__}.eps must be 0 or a normal number of float32, got {layer.eps}")
    for name in names:
        freeze(layer, name, len(shape), optional=True)
        value = getattr(layer, name)
        if value is not None and value.shape != shape:
            raise InputError(f"{type(layer).__name__}.{name} must have shape {shape}, got {value.shape}")


class _OverLastAxes(_Normalisation):
    """Base of what normalises over the last axes: each row has a given shape."""

    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        if not self.shape or inputs[0][-len(self.shape) :] != self.shape:
            raise InputError(f"{type(self).__name__} needs features that end with {self.shape}, got {inputs[0]}")
        return inputs[0]

    def _rows(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, prod(self.shape))


@op
class LayerNorm(_OverLastAxes):
    """`y = (x - mean) / sqrt(var + eps) * weight + bias` over the last axes (Ba et al. 2016, eq. 3).

    Args:
        shape: of the last axes, those that share one mean and one variance.
        eps: added to the variance.
        weight: of that shape; None = 1.
        bias: of that shape; None = 0.
    """

    shape: Shape
    eps: float
    weight: Array | None = None
    bias: Array | None = None

    def __post_init__(self) -> None:
        whole_numbers(self, "shape", 1)
        _check(self, self.shape, "weight", "bias")


@op
class RMSNorm(_OverLastAxes):
    """`y = x / sqrt(mean(x**2) + eps) * weight` over the last axes (Zhang and Sennrich 2019, eq. 4).

    Args:
        shape: of the last axes, those that share one mean square.
        eps: added to the mean square.
        weight: of that shape; None = 1.
    """

    shape: Shape
    eps: float
    weight: Array | None = None

    centred = False

    def __post_init__(self) -> None:
        whole_numbers(self, "shape", 1)
        _check(self, self.shape, "weight")


@op
class GroupNorm(_Normalisation):
    """`y = (x - mean) / sqrt(var + eps) * weight + bias`, each group of channels for itself (Wu and He 2018, eq. 1).

    One channel per group is an InstanceNorm, one group for all a LayerNorm over everything.

    Args:
        groups: number of groups, of neighbouring channels; the first feature axis.
        eps: added to the variance.
        weight: (C,); None = 1.
        bias: (C,); None = 0.
    """

    groups: int
    eps: float
    weight: Array | None = None
    bias: Array | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.groups) or not 1 <= self.groups <= LARGEST:
            raise InputError(f"GroupNorm.groups must be a whole number >= 1, got {self.groups!r}")
        constants = [a for a in (self.weight, self.bias) if a is not None]
        _check(self, (len(constants[0]),) if constants else (), "weight", "bias")

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = inputs[0][0] if inputs[0] else 0
        if channels % self.groups or not channels:
            raise InputError(f"GroupNorm needs channels that {self.groups} divides, got shape {inputs[0]}")
        if any(a is not None and len(a) != channels for a in (self.weight, self.bias)):
            raise InputError(f"GroupNorm: weight and bias are not of the {channels} channels of shape {inputs[0]}")
        return inputs[0]

    def _rows(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.groups, -1)

    def _beside(self, constant: Tensor, x: Tensor) -> Tensor:
        return constant.view(-1, *[1] * (x.ndim - 2))
