"""Pools over the axes behind the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.machine.ops.sliding import Padding, pad, padded_size, slide

__all__ = ["AvgPool", "MaxPool", "SumPool"]


@dataclass(frozen=True, eq=False)
class _Pool(Layer):
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding

    def __post_init__(self) -> None:
        whole_numbers(self, "kernel", 1)
        whole_numbers(self, "stride", 1, len(self.kernel))
        pairs(self, "padding", len(self.kernel))
        if len(self.kernel) not in (1, 2):
            raise InputError(f"{type(self).__name__} slides over one or two axes, got kernel {self.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != len(self.kernel) + 1:
            raise InputError(f"{type(self).__name__} needs channels and {len(self.kernel)} more axes, got {inputs[0]}")
        spatial = slide(inputs[0][1:], self.kernel, self.stride, self.padding, (1,) * len(self.kernel))
        return (inputs[0][0], *spatial)

    def workspace(self, *inputs: Shape) -> int:
        """The input padded."""
        return padded_size(inputs[0], self.padding)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, prod(self.kernel))


@op
class AvgPool(_Pool):
    """Mean over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
        count_padding: whether padded zeros count in the divisor.
    """

    count_padding: bool = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        pool: Callable[..., Tensor] = F.avg_pool1d if len(self.kernel) == 1 else F.avg_pool2d
        mean = pool(pad(inputs[0], self.padding), self.kernel, self.stride)
        if self.count_padding:
            return mean
        return mean / pool(pad(torch.ones_like(inputs[0]), self.padding), self.kernel, self.stride)


@op
class SumPool(_Pool):
    """Sum over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
    """

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        # Two axes always: only avg_pool2d can be told not to divide, and a mean times its size rounds.
        one_axis = len(self.kernel) == 1
        x = pad(inputs[0], self.padding)
        x = x.unsqueeze(-2) if one_axis else x
        kernel, stride = ((1, *self.kernel), (1, *self.stride)) if one_axis else (self.kernel, self.stride)
        total = F.avg_pool2d(x, kernel, stride, divisor_override=1)
        return total.squeeze(-2) if one_axis else total


@op
class MaxPool(_Pool):
    """Maximum over a sliding window of one or two axes; padding never wins.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) per axis.
    """

    keeps_spikes = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        pool: Callable[..., Tensor] = F.max_pool1d if len(self.kernel) == 1 else F.max_pool2d
        return pool(pad(inputs[0], self.padding, -torch.inf), self.kernel, self.stride)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, 1)
