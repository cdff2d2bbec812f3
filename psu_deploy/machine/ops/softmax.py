"""Softmax over an axis of the features, and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.elementary import known
from psu_deploy.machine.ops.fields import LARGEST, Shape
from psu_deploy.machine.ops.functions import FUNCTION_ERROR
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.numerics.checks import is_whole

__all__ = ["LogSoftmax", "Softmax"]


@dataclass(frozen=True, eq=False)
class _Softmax(Layer):
    axis: int

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        if not is_whole(self.axis) or not 0 <= self.axis <= LARGEST:
            raise InputError(f"{type(self).__name__}.axis must be a feature axis, 0, 1, ...; got {self.axis!r}")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) <= self.axis:
            raise InputError(f"{type(self).__name__} over feature axis {self.axis} does not fit shape {inputs[0]}")
        return inputs[0]

    def _of_the_sum(self, x: Tensor, error: Tensor, roundoff: Roundoff) -> tuple[Tensor, Tensor]:
        """Bounds of the logarithm of a term exp(x_j - max), and of that of their sum.

        Whatever number is taken for max leaves again, so it is rounded but not wrong. A sum of positive terms each off
        by a factor of exp(r_j) at most is off by one of `sum_j p_j exp(r_j)`, p being the softmax.
        """
        axis = self.axis + 1
        below = x.amax(axis, keepdim=True) - x
        term = error + roundoff.unit * (2 * below + FUNCTION_ERROR)
        total = (torch.softmax(x, axis) * torch.expm1(term)).sum(axis, keepdim=True).log1p()
        return term, total + roundoff.unit * (x.shape[axis] + FUNCTION_ERROR)


@op
class Softmax(_Softmax):
    """`exp(x_i) / sum_j exp(x_j)` over one axis of the features.

    Args:
        axis: feature axis, from 0; batch is not counted.
    """

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return torch.softmax(inputs[0], self.axis + 1)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """No result is above 1, so none is off by more, as long as there is one."""
        x, error = context.exact[0], inputs[0].chunk(2)[1].double()
        value = self.step([x], context)
        term, total = self._of_the_sum(x, error, roundoff)
        bound = (value * torch.expm1(term + total)).nan_to_num(nan=1.0).clamp(max=1.0)
        own = (x.shape[self.axis + 1] + 1) * roundoff.tiny + FUNCTION_ERROR * roundoff.unit * value
        return known(value, bound + own, _finite(x, error, self.axis + 1, roundoff), roundoff)


@op
class LogSoftmax(_Softmax):
    """`x_i - log(sum_j exp(x_j))` over one axis of the features.

    Args:
        axis: feature axis, from 0; batch is not counted.
    """

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return torch.log_softmax(inputs[0], self.axis + 1)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """An engine may add the maximum to the logarithm first."""
        x, error = context.exact[0], inputs[0].chunk(2)[1].double()
        value = self.step([x], context)
        _, total = self._of_the_sum(x, error, roundoff)
        largest = x.abs().amax(self.axis + 1, keepdim=True)
        own = FUNCTION_ERROR * roundoff.unit * (value.abs() + largest + 1.0)
        return known(value, error + total + own, _finite(x, error, self.axis + 1, roundoff), roundoff)


def _finite(x: Tensor, error: Tensor, axis: int, roundoff: Roundoff) -> Tensor:
    """Whether every number along the axis is far from an overflow."""
    size = x.abs() + error
    return (size < 1 / roundoff.tiny).all(axis, keepdim=True).expand_as(x)
