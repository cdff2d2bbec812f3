"""Pools over the axes behind the channels."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Shape, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.sliding import Padding, slide


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


@dataclass(frozen=True, eq=False)
class AvgPool(_Pool):
    """Mean over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
        count_padding: whether padded zeros count in the divisor.
    """

    count_padding: bool = True


@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """Sum over a sliding window of one or two axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
    """


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """Maximum over a sliding window of one or two axes; padding never wins.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) per axis.
    """
