"""The layers of a state machine: frozen dataclasses, one per kind.

The stateless ones are here; those with a memory are in `along_time`, neurons in `neurons`, and all of them are names of
this module. Shapes are those of one step without batch: a layer maps features to features, `output_shape` says which.
A layer with memory lists it in `state_shapes`: role -> shape per sample; all state starts at zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.machine.along_time import Delay, Filter, Hold, Readout, TimeConv, Wait
from psu_deploy.machine.fields import UNSAVED, Array, Shape, freeze, is_whole, one_of, pairs, whole_numbers
from psu_deploy.machine.layer import Layer
from psu_deploy.machine.neurons import BernoulliNeuron, LIFNeuron, Neuron, SpikingNeuron

Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
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
        _freeze_bias(self)

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][-1] != self.weight.shape[1]:
            raise InputError(f"Linear needs {self.weight.shape[1]} features in the last axis, got shape {inputs[0]}")
        return (*inputs[0][:-1], self.weight.shape[0])


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
        _freeze_bias(self)
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
        spatial = _slide(inputs[0][1:], self.weight.shape[2:], self.stride, self.padding, self.dilation)
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


@dataclass(frozen=True, eq=False)
class ChannelAffine(Layer):
    """`y[c] = scale[c]*x[c] + shift[c]` per channel, the first feature axis: a BatchNorm in eval form.

    Args:
        scale: (C,).
        shift: (C,).
        summed: (C,), how large the numbers are that a module adds up for the shift while it runs: they are rounded, and
            may cancel. `|bias| + |mean*scale|` for a BatchNorm. No part of what is computed, and not saved. None = the
            shift is there as it is.
    """

    scale: Array
    shift: Array
    summed: Array | None = field(default=None, metadata=UNSAVED)

    def __post_init__(self) -> None:
        freeze(self, "scale", 1)
        freeze(self, "shift", 1)
        freeze(self, "summed", 1, optional=True)
        if self.scale.shape != self.shift.shape or self.shift_size.shape != self.shift.shape:
            raise InputError(f"ChannelAffine: scale {self.scale.shape} and shift {self.shift.shape} differ")

    @property
    def shift_size(self) -> Array:
        """(C,), what the rounding of the shift is relative to."""
        return np.abs(self.shift) if self.summed is None else self.summed

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][0] != len(self.scale):
            raise InputError(f"ChannelAffine needs {len(self.scale)} channels, got shape {inputs[0]}")
        return inputs[0]


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
        spatial = _slide(inputs[0][1:], self.kernel, self.stride, self.padding, (1,) * len(self.kernel))
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


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All features in one axis, the last axis fastest: (C, H, W) -> (C*H*W,)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)


class _Elementwise(Layer):
    """Base of what combines two or more inputs of one shape, entry by entry."""

    arity = None

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1:
            raise InputError(f"{type(self).__name__} needs inputs of one shape, got {inputs}")
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Add(_Elementwise):
    """Sum of two or more inputs of one shape, left to right."""


@dataclass(frozen=True, eq=False)
class Multiply(_Elementwise):
    """Product of two or more inputs of one shape, left to right."""


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """A pointwise function: `max(x, 0)` or `1 / (1 + exp(-x))`.

    Args:
        kind: "relu" or "sigmoid".
    """

    kind: str

    def __post_init__(self) -> None:
        one_of(self, "kind", ("relu", "sigmoid"))


def _freeze_bias(layer: Linear | _Conv) -> None:
    freeze(layer, "bias", 1, optional=True)
    if layer.bias is not None and len(layer.bias) != layer.weight.shape[0]:
        raise InputError(
            f"{type(layer).__name__}: bias has {len(layer.bias)} entries for {layer.weight.shape[0]} outputs"
        )


def _slide(size: Shape, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape) -> Shape:
    spans = [n + sum(p) - d * (k - 1) - 1 for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)]
    if min(spans) < 0:
        raise InputError(f"a window of {kernel} does not fit an input of {size} padded by {padding}")
    return tuple(span // s + 1 for span, s in zip(spans, stride, strict=True))


__all__ = [
    "Activation",
    "Add",
    "AvgPool",
    "BernoulliNeuron",
    "ChannelAffine",
    "Conv1d",
    "Conv2d",
    "Delay",
    "Filter",
    "Flatten",
    "Hold",
    "LIFNeuron",
    "Layer",
    "Linear",
    "MaxPool",
    "Multiply",
    "Neuron",
    "Padding",
    "Readout",
    "SpikingNeuron",
    "SumPool",
    "TimeConv",
    "Wait",
]
