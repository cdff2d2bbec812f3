"""Convolutions and poolings in the one form that survives NIR: no groups, square kernels, even padding."""

from __future__ import annotations

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.primitives import Convolution, Dense, Pool
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape

_TORCH_ONLY = "NIR pads both sides alike and knows square kernels only; this one cannot be written so"
_CHANGE = "use an odd or a square kernel with symmetric padding"

_MOST_ZEROS = 3
"""Added to a side of a kernel, one less."""


def convolution(layer: ops.Conv1d | ops.Conv2d, shape: Shape) -> Convolution:
    """A convolution of the machine, of whatever kind."""
    weight = ungrouped(layer.weight, layer.groups)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias
    return regular(weight, bias, shape, layer.stride, layer.padding, layer.dilation)


def ungrouped(weight: Array, groups: int) -> Array:
    """(C_out, C_in/groups, ...) -> (C_out, C_in, ...): zeros where a group does not look."""
    if groups == 1:
        return weight
    outputs, inputs = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), inputs * groups, *weight.shape[2:]))
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return full


def regular(
    weight: Array, bias: Array, shape: Shape, stride: Shape, padding: ops.Padding, dilation: Shape
) -> Convolution:
    """The same convolution with a square kernel and the same padding on both sides, by adding zeros to the kernel.

    Args:
        weight: (C_out, C_in, *kernel), one group.
        bias: (C_out,).
        shape: (C_in, *size) of the input.
        stride: per axis.
        padding: (before, after) per axis.
        dilation: per axis.
    """
    kernel = weight.shape[2:]
    for side in range(max(kernel), max(kernel) + _MOST_ZEROS):
        axes = [_fit(*numbers, side) for numbers in zip(shape[1:], kernel, stride, padding, dilation, strict=True)]
        if None not in axes:
            found = [axis for axis in axes if axis is not None]
            zeros = [(0, 0), (0, 0), *((before, after) for before, after, _, _ in found)]
            wide = np.pad(weight, zeros)
            strides, pads = tuple(axis[3] for axis in found), tuple(axis[2] for axis in found)
            return Convolution(wide, bias, strides, pads, tuple(dilation))
    raise Refusal(_TORCH_ONLY, _CHANGE)


def _fit(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, side: int
) -> tuple[int, int, int, int] | None:
    """(zeros before, zeros after, padding, stride) that make the kernel `side` long; None if there are none.

    Output i looks at input `i*stride - before_padding`; zeros before the kernel move that, padding moves it back.
    """
    outputs = (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
    step = stride if outputs > 1 else max(stride, size + sum(padding) + dilation * side)
    for before in range(side - kernel + 1):
        pad = padding[0] + before * dilation
        if (size + 2 * pad - dilation * (side - 1) - 1) // step + 1 == outputs:
            return before, side - kernel - before, pad, step
    return None


def pool(layer: ops.AvgPool | ops.SumPool | ops.MaxPool, shape: Shape) -> Pool | Convolution:
    """A mean or a sum; NIR pools over two axes without padding, anything else is a convolution with one channel each.

    Raises:
        Refusal: if there are three axes, or the padding of a mean does not count: its divisor would differ from place
            to place.
    """
    if len(layer.kernel) > 2:
        raise Refusal("a pooling over three axes; NIR has one and two", "use fewer axes, or export to ONNX")
    average, padded = isinstance(layer, ops.AvgPool), any(map(any, layer.padding))
    if isinstance(layer, ops.AvgPool) and not layer.count_padding and padded:
        raise Refusal("AvgPool that does not count its padding", "use count_include_pad=True or no padding")
    if len(layer.kernel) == 2 and not padded:
        return Pool(average, layer.kernel, layer.stride, (0, 0))
    channels, axes = shape[0], (1,) * len(layer.kernel)
    ones = np.ones(layer.kernel) / (np.prod(layer.kernel) if average else 1.0)
    weight = np.eye(channels).reshape(channels, channels, *axes) * ones
    return regular(weight, np.zeros(channels), shape, layer.stride, layer.padding, axes)


def elementwise(matrix: Array, bias: Array, shape: Shape) -> Dense | Convolution:
    """The same matrix over the channels at every place: dense, or a 1 x 1 convolution."""
    axes = len(shape) - 1
    if axes == 0:
        return Dense(matrix, bias)
    if axes > 2:
        raise Refusal(f"features of {axes + 1} axes; NIR has convolutions over one or two", "use fewer axes")
    weight = matrix.reshape(*matrix.shape, *[1] * axes)
    return Convolution(weight, bias, (1,) * axes, (0,) * axes, (1,) * axes)
