"""Convolutions over the axes behind the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, freeze, freeze_bias, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.machine.ops.sliding import Padding, pad, padded_size, slide
from psu_deploy.numerics.checks import is_whole

__all__ = ["Conv1d", "Conv2d"]


@dataclass(frozen=True, eq=False)
class _Conv(Layer):
    weight: Array
    bias: Array | None
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int

    axes: ClassVar[int] = 0
    _convolve: ClassVar[Any]

    def __post_init__(self) -> None:
        freeze(self, "weight", self.axes + 2)
        freeze_bias(self)
        whole_numbers(self, "stride", 1, self.axes)
        whole_numbers(self, "dilation", 1, self.axes)
        pairs(self, "padding", self.axes)
        if not is_whole(self.groups) or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise InputError(
                f"{type(self).__name__}: groups={self.groups} does not divide {self.weight.shape[0]} channels"
            )

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = self.weight.shape[1] * self.groups
        if len(inputs[0]) != self.axes + 1 or inputs[0][0] != channels:
            raise InputError(
                f"{type(self).__name__} needs {channels} channels and {self.axes} more axes, got {inputs[0]}"
            )
        spatial = slide(inputs[0][1:], self.weight.shape[2:], self.stride, self.padding, self.dilation)
        return (self.weight.shape[0], *spatial)

    def workspace(self, *inputs: Shape) -> int:
        """The input padded, and unfolded: a patch of it for every place of the output."""
        places = prod(self.output_shape(*inputs)[1:])
        return padded_size(inputs[0], self.padding) + prod(self.weight.shape[1:]) * self.groups * places

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        weight, bias = context.tensor(self.weight), None if self.bias is None else context.tensor(self.bias)
        x = pad(inputs[0], self.padding)
        result: Tensor = self._convolve(x, weight, bias, self.stride, 0, self.dilation, self.groups)
        return result

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, prod(self.weight.shape[1:]), self.bias)


@op
class Conv1d(_Conv):
    """Cross-correlation over one axis: (C_in, L) -> (C_out, L'), zero padding.

    Args:
        weight: (C_out, C_in/groups, k).
        bias: (C_out,) or None.
        stride: (s,) in samples.
        padding: ((before, after),) zeros.
        dilation: (d,) in samples.
        groups: number of groups.
    """

    axes = 1
    _convolve = staticmethod(F.conv1d)


@op
class Conv2d(_Conv):
    """Cross-correlation over two axes: (C_in, H, W) -> (C_out, H', W'), zero padding.

    Args:
        weight: (C_out, C_in/groups, kh, kw).
        bias: (C_out,) or None.
        stride: (sh, sw) in pixels.
        padding: ((top, bottom), (left, right)) zeros.
        dilation: (dh, dw) in pixels.
        groups: number of groups.
    """

    axes = 2
    _convolve = staticmethod(F.conv2d)
