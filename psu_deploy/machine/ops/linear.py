"""Weighted sums over an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, freeze, freeze_bias
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Linear"]


@op
class Linear(Layer):
    """`y = W x + b` over the last axis: (..., in) -> (..., out).

    Args:
        weight: (out, in).
        bias: (out,) or None.
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        freeze(self, "weight", 2)
        freeze_bias(self)

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][-1] != self.weight.shape[1]:
            raise InputError(f"Linear needs {self.weight.shape[1]} features in the last axis, got shape {inputs[0]}")
        return (*inputs[0][:-1], self.weight.shape[0])

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        bias = None if self.bias is None else context.tensor(self.bias)
        return F.linear(inputs[0], context.tensor(self.weight), bias)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Products with an exact zero round nothing."""
        magnitude, _ = inputs[0].chunk(2)
        terms = (magnitude != 0).sum(-1, keepdim=True)
        return self._sum_error(inputs, context, roundoff, terms, self.bias, channels=-1)
