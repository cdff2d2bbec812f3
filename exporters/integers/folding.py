"""Poolings as weights: netx knows none, so a mean or a sum becomes part of the layer before it or behind it."""

from __future__ import annotations

from math import prod

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.integers.network import Conv
from psu_deploy.exporters.integers.real_network import RealConv
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape

LONGEST = 127
"""Lava keeps kernel size, stride, padding and dilation in eight bits, and wraps larger ones in silence."""

LinearPool = ops.AvgPool | ops.SumPool
Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]


def two_axes(layer: ops.Conv1d | ops.Conv2d) -> RealConv:
    """A convolution of the machine; one axis is an image of height 1."""
    weight = layer.weight if layer.weight.ndim == 4 else layer.weight[:, :, None, :]
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias
    stride, dilation, padding = _pair(layer.stride, 1), _pair(layer.dilation, 1), _pads(layer.padding)
    return _evenly_padded(weight, bias, stride, padding, dilation, layer.groups)


def pool_as_conv(pool: LinearPool | ops.MaxPool, channels: int) -> RealConv:
    """A pooling as a convolution that looks at one channel each: ones, divided where it is a mean."""
    kernel, stride, padding = _pool_axes(pool)
    weight = np.ones((channels, 1, *kernel)) / _divisor(pool)
    return _evenly_padded(weight, np.zeros(channels), stride, padding, (1, 1), channels)


def into_dense(weight: Array, pool: LinearPool, shape: Shape) -> Array:
    """Weights over pooled features as weights over the features themselves, `W P`. Always exact.

    Args:
        weight: W, (out, C*H'*W').
        pool: P, as a matrix.
        shape: (C, H, W) that the pooling is given.

    Returns:
        (out, C*H*W).
    """
    kernel, stride, padding = _pool_axes(pool)
    size = pooled_size(pool, shape)
    share = weight.reshape(len(weight), shape[0], *size) / _shares(pool, shape)
    wide = np.zeros((len(weight), shape[0], *(n + sum(p) for n, p in zip(shape[1:], padding, strict=True))))
    for y, x in np.ndindex(kernel):
        rows, columns = (slice(at, at + s * (n - 1) + 1, s) for at, s, n in zip((y, x), stride, size, strict=True))
        wide[:, :, rows, columns] += share
    inside = (slice(p[0], p[0] + n) for p, n in zip(padding, shape[1:], strict=True))
    return wide[:, :, *inside].reshape(len(weight), -1)


def into_conv(conv: RealConv, pool: LinearPool, shape: Shape) -> RealConv | None:
    """A pooling and the convolution behind it as one convolution; None where that would not be exact.

        K[j*d*q + u] += w[j] / divisor,   stride s*q,   padding P*q + p

    A zero that the convolution pads must stay a zero: no window of the pooling there may see the image. And what comes
    out must fit Lava.

    Args:
        conv: kernel w, stride s, dilation d, padding P.
        pool: window u = 0 .. k-1, stride q, padding p.
        shape: (C, H, W) that the pooling is given.
    """
    kernel, strides, padding = _pool_axes(pool)
    size = pooled_size(pool, shape)
    if isinstance(pool, ops.AvgPool) and not pool.count_padding and any(map(any, padding)):
        return None
    weight, pads, outputs = conv.weight / _divisor(pool), [], conv_size(conv, (shape[0], *size))
    for axis in (0, 1):
        q, p, k, outer = strides[axis], padding[axis][0], kernel[axis], conv.padding[axis]
        sees_image = k > q + p or size[axis] * q - p < shape[axis + 1]
        if outer and sees_image:
            return None
        weight = _spread(weight, axis + 2, conv.dilation[axis] * q, k)
        before, stride = outer * q + p, conv.stride[axis] * q
        reach = (outputs[axis] - 1) * stride + weight.shape[axis + 2] - before
        pads.append((before, max(0, reach - shape[axis + 1])))
    folded = _evenly_padded(
        weight,
        conv.bias,
        (conv.stride[0] * strides[0], conv.stride[1] * strides[1]),
        (pads[0], pads[1]),
        (1, 1),
        conv.groups,
    )
    return folded if conv_size(folded, shape) == outputs and fits_lava(folded) else None


def behind_conv(conv: RealConv, pool: LinearPool) -> RealConv:
    """A convolution and the pooling behind it as one convolution.

        K[u*s + j*d] += w[j] / divisor,   stride s*q,   bias b (a sum of k windows: k b)

    Raises:
        Refusal: if the pooling is padded: its zeros are not those of the image.
    """
    kernel, strides, padding = _pool_axes(pool)
    if any(map(any, padding)):
        raise Refusal("a padded pooling between weights and neuron", "pool behind the neuron, or without padding")
    weight = conv.weight
    for axis in (0, 1):
        dilated = _spread(weight, axis + 2, conv.dilation[axis], 1)
        weight = sum_of_shifts(dilated, axis + 2, kernel[axis], conv.stride[axis])
    stride = (conv.stride[0] * strides[0], conv.stride[1] * strides[1])
    share = prod(kernel) / _divisor(pool)
    return RealConv(weight / _divisor(pool), conv.bias * share, stride, conv.padding, (1, 1), conv.groups)


def fits_lava(conv: RealConv) -> bool:
    """Whether Lava can count that far."""
    return all(n <= LONGEST for n in (*conv.weight.shape[2:], *conv.stride, *conv.padding, *conv.dilation))


def sum_of_shifts(weight: Array, axis: int, times: int, by: int) -> Array:
    """`sum over u < times of weight shifted by u*by` along an axis."""
    widths = [(0, 0)] * weight.ndim
    parts = []
    for u in range(times):
        widths[axis] = (u * by, (times - 1 - u) * by)
        parts.append(np.pad(weight, widths))
    total: Array = np.sum(parts, axis=0)
    return total


def conv_size(conv: RealConv | Conv, shape: Shape) -> Pair:
    """(H', W') of a convolution's output."""
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            shape[1:], conv.padding, conv.dilation, conv.weight.shape[2:], conv.stride, strict=True
        )
    ]
    return sizes[0], sizes[1]


def pooled_size(pool: LinearPool | ops.MaxPool, shape: Shape) -> Pair:
    """(H', W') of a pooling's output."""
    kernel, stride, padding = _pool_axes(pool)
    sizes = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(shape[1:], padding, kernel, stride, strict=True)]
    return sizes[0], sizes[1]


def _spread(weight: Array, axis: int, apart: int, ones: int) -> Array:
    """A kernel whose entries stand `apart`, each of them `ones` times in a row: overlapping ones add up."""
    count = weight.shape[axis]
    wide = np.zeros((*weight.shape[:axis], (count - 1) * apart + ones, *weight.shape[axis + 1 :]))
    where: list[slice] = [slice(None)] * weight.ndim
    for u in range(ones):
        where[axis] = slice(u, u + (count - 1) * apart + 1, apart)
        wide[tuple(where)] += weight
    return wide


def _evenly_padded(weight: Array, bias: Array, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> RealConv:
    """The same convolution with as many zeros before as behind: what lacks is added to the kernel as zeros."""
    even, steps = [], []
    for axis, (before, behind) in enumerate(padding):
        more = max(before, behind)
        lack = (more - before, more - behind)
        if any(missing % dilation[axis] for missing in lack):  # zeros between the entries instead
            weight, step = _spread(weight, axis + 2, dilation[axis], 1), 1
        else:
            step = dilation[axis]
        widths = [(0, 0)] * weight.ndim
        widths[axis + 2] = (lack[0] // step, lack[1] // step)
        weight = np.pad(weight, widths)
        even.append(more)
        steps.append(step)
    return RealConv(weight, bias, stride, (even[0], even[1]), (steps[0], steps[1]), groups)


def _shares(pool: LinearPool, shape: Shape) -> Array | float:
    """What a window's sum is divided by, window by window where padding does not count."""
    if not isinstance(pool, ops.AvgPool) or pool.count_padding:
        return _divisor(pool)
    kernel, stride, padding = _pool_axes(pool)
    ones = np.pad(np.ones(shape[1:]), padding)
    windows = np.lib.stride_tricks.sliding_window_view(ones, kernel)[:: stride[0], :: stride[1]]
    counts: Array = windows.sum((2, 3))
    return counts


def _divisor(pool: LinearPool | ops.MaxPool) -> float:
    if not isinstance(pool, ops.AvgPool):
        return 1.0
    if not pool.count_padding and any(map(any, pool.padding)):
        raise Refusal("AvgPool that does not count its padding", "use count_include_pad=True or no padding")
    return float(prod(pool.kernel))


def _pool_axes(pool: LinearPool | ops.MaxPool) -> tuple[Pair, Pair, Pads]:
    if len(pool.kernel) > 2:
        raise Refusal("a pooling over three axes; Lava has one and two", "use fewer axes, or export to ONNX")
    return _pair(pool.kernel, 1), _pair(pool.stride, 1), _pads(pool.padding)


def _pair(values: Shape, first: int) -> Pair:
    return (values[0], values[1]) if len(values) == 2 else (first, values[0])


def _pads(padding: ops.Padding) -> Pads:
    return (padding[0], padding[1]) if len(padding) == 2 else ((0, 0), padding[0])
