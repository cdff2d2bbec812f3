"""Convolutions over the axes behind the channels."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Array, Shape, freeze, freeze_bias, is_whole, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.sliding import Padding, slide


@dataclass(frozen=True, eq=False)
class _Conv(Layer):
    weight: Array
    bias: Array | None
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int

    axes = 0

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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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
