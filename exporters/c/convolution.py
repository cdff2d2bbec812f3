"""Convolutions: every input that is not zero is spread over the places it reaches, all channels of a place at once."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from psu_deploy.exporters.c.loops import place, strides_of
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def _conv(layer: Any, scope: Scope) -> None:
    """What an input at i meets with tap k of the kernel is the output at q = (i + before - k * dilation) / stride."""
    outputs, per_group = layer.weight.shape[:2]
    scope.say("y[o, q] = b[o] + sum over c, k of W[o, c, k] x[c, q * stride + k * dilation - before]")
    out = outputs // layer.groups
    grouped = layer.weight.reshape(layer.groups, out, per_group, -1).transpose(0, 2, 3, 1)
    _spread(layer, scope, grouped, _place_of_conv)


def _conv_transpose(layer: Any, scope: Scope) -> None:
    """What an input at i meets with tap k of the kernel is the output at q = i * stride + k * dilation - before."""
    scope.say("y[o, i * stride + k * dilation - before] = b[o] + sum over c, i of W[c, o, k] x[c, i]")
    inputs, out = layer.weight.shape[:2]
    grouped = layer.weight.reshape(layer.groups, inputs // layer.groups, out, -1).transpose(0, 1, 3, 2)
    _spread(layer, scope, grouped, _place_of_transposed)


def _place_of_conv(layer: Any, axis: int, size: int, scope: Scope) -> None:
    """Declares `q<axis>`, or goes on with the next tap where there is no such place."""
    before, stride, dilation = layer.padding[axis][0], layer.stride[axis], layer.dilation[axis]
    at = f"i{axis} + {before} - k{axis} * {dilation}" if dilation > 1 else f"i{axis} + {before} - k{axis}"
    if stride == 1:
        _declare(scope, axis, at, size)
        return
    scope.line(f"const int p{axis} = {at};")
    scope.open(f"if (p{axis} < 0 || p{axis} % {stride} != 0)")
    scope.line("continue;")
    scope.close()
    _declare(scope, axis, f"p{axis} / {stride}", size)


def _place_of_transposed(layer: Any, axis: int, size: int, scope: Scope) -> None:
    before, stride, dilation = layer.padding[axis][0], layer.stride[axis], layer.dilation[axis]
    _declare(scope, axis, f"i{axis} * {stride} + k{axis} * {dilation} - {before}", size)


def _declare(scope: Scope, axis: int, at: str, size: int) -> None:
    scope.line(f"const int q{axis} = {at};")
    scope.open(f"if (q{axis} < 0 || q{axis} >= {size})")
    scope.line("continue;")
    scope.close()


def _spread(layer: Any, scope: Scope, grouped: Any, find: Callable[[Any, int, int, Scope], None]) -> None:
    """Weights lie (groups, C_in of a group, taps, C_out of a group), sums (places, C_out) until they are complete."""
    scope.say("Every x that is not 0 is spread over the places it reaches; the sums lie channels last until then.")
    inputs, kernel, features = scope.features[0], layer.weight.shape[2:], scope.features[1:]
    channels, places = scope.shape[0], scope.shape[1:]
    weight = scope.constant(np.ascontiguousarray(grouped), "weight")
    bias = None if layer.bias is None else scope.constant(layer.bias, "bias")
    sums = scope.room("sums", channels * prod(places))
    _start(scope, sums, bias, channels, prod(places))
    out, per_group = channels // layer.groups, inputs // layer.groups
    scope.count("c", inputs)
    indices, opened = _loops(scope, features, "i")
    scope.line(f"const float v = x[{place(['c', *indices], strides_of(scope.features))}];")
    scope.open("if (v == 0.0f)")
    scope.line("continue;")
    scope.close()
    taps = _taps(layer, scope, kernel, places, find)
    tap = place(["c", *taps], [prod(kernel), *strides_of(kernel)])
    at = place([f"q{axis}" for axis in range(len(places))], strides_of(places))
    group = "" if layer.groups == 1 else f" + c / {per_group} * {out}"
    scope.line(f"const float *row = {weight} + ({tap}) * {out};")
    scope.line(f"float *sum = {sums} + ({at}) * {channels}{group};")
    scope.count("o", out)
    scope.line("sum[o] += v * row[o];")
    scope.close(opened + len(kernel) + 2)
    scope.line(f"{scope.use('channels_first')}(y, {sums}, {channels}, {prod(places)});")


def _loops(scope: Scope, shape: Shape, letter: str) -> tuple[list[str], int]:
    """Loops over all axes, those of one entry too."""
    indices = [f"{letter}{axis}" for axis in range(len(shape))]
    for index, size in zip(indices, shape, strict=True):
        scope.count(index, size)
    return indices, len(shape)


def _taps(
    layer: Any, scope: Scope, kernel: Shape, places: Shape, find: Callable[[Any, int, int, Scope], None]
) -> list[str]:
    taps = []
    for axis, size in enumerate(kernel):
        scope.count(f"k{axis}", size)
        find(layer, axis, places[axis], scope)
        taps.append(f"k{axis}")
    return taps


def _start(scope: Scope, sums: str, bias: str | None, channels: int, places: int) -> None:
    if bias is None:
        scope.line(f"memset({sums}, 0, {channels * places} * sizeof *{sums});")
        return
    scope.count("q", places)
    scope.line(f"memcpy({sums} + q * {channels}, {bias}, {channels} * sizeof *{sums});")
    scope.close()


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.Conv3d: _conv,
    ops.ConvTranspose1d: _conv_transpose,
    ops.ConvTranspose2d: _conv_transpose,
}
"""Kind -> rule."""
