"""Convolutions and pools -> ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from psu_deploy.exporters.onnx.functions import power
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.exporters.onnx.shape import padded
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def _conv(layer: Any, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    operands = [inputs[0], b.weights(layer.weight, name)]
    if layer.bias is not None:
        operands.append(b.floats(layer.bias, f"{name}.bias"))
    return b.op(
        "Conv",
        *operands,
        name=name,
        kernel_shape=list(layer.weight.shape[2:]),
        strides=list(layer.stride),
        pads=_pads(layer.padding),
        dilations=list(layer.dilation),
        group=layer.groups,
    )


def _conv_transpose(layer: Any, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    operands = [inputs[0], b.floats(layer.weight, f"{name}.weight")]
    if layer.bias is not None:
        operands.append(b.floats(layer.bias, f"{name}.bias"))
    return b.op(
        "ConvTranspose",
        *operands,
        name=name,
        kernel_shape=list(layer.weight.shape[2:]),
        strides=list(layer.stride),
        pads=_pads(layer.padding),
        output_padding=list(layer.output_padding),
        dilations=list(layer.dilation),
        group=layer.groups,
    )


def _avg_pool(layer: ops.AvgPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """Padded zeros that count are put around beforehand where onnxruntime wants fewer of them."""
    x, window = inputs[0], _window(layer)
    if layer.count_padding and _wide(layer):
        x = padded(x, ((0, 0), *layer.padding), 0.0, f"{scope.name}.padded", scope)
        window["pads"] = [0] * len(window["pads"])
    elif _wide(layer):
        window["pads"] = _reached(layer, scope.features)
    count = int(layer.count_padding)
    return scope.builder.op("AveragePool", x, name=scope.name, count_include_pad=count, **window)


def _sum_pool(layer: ops.SumPool | ops.LPPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """A convolution with ones, channel by channel: a mean times its size would round."""
    b, name, channels = scope.builder, scope.name, scope.features[0]
    ones = b.floats(np.ones((channels, 1, *layer.kernel)), f"{name}.ones")
    return b.op("Conv", inputs[0], ones, name=name, group=channels, **_window(layer))


def _lp_pool(layer: ops.LPPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """In single steps: LpPool has whole numbers for p only, and takes signs away."""
    raised = power(inputs[0], layer.norm, scope)
    return power(_sum_pool(layer, [raised], scope), 1 / layer.norm, scope)


def _max_pool(layer: ops.MaxPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    window = _window(layer)
    if _wide(layer):
        window["pads"] = _reached(layer, scope.features)
    return scope.builder.op("MaxPool", inputs[0], name=scope.name, **window)


def _window(layer: Any) -> dict[str, Any]:
    return {"kernel_shape": list(layer.kernel), "strides": list(layer.stride), "pads": _pads(layer.padding)}


def _wide(layer: Any) -> bool:
    """Whether there is a side with as much padding as a window has places: onnxruntime refuses such a pool."""
    return any(max(pair) >= size for pair, size in zip(layer.padding, layer.kernel, strict=True))


def _reached(layer: Any, features: Shape) -> list[int]:
    """Padding as far as a window gets, which is less than one where none lies in the padding alone."""
    places, axes = layer.output_shape(features)[1:], (features[1:], layer.kernel, layer.stride, layer.padding)
    ends = [(n, (count - 1) * s + k, pair) for count, n, k, s, pair in zip(places, *axes, strict=True)]
    return _pads(tuple((before, max(0, end - before - n)) for n, end, (before, _) in ends))


def _pads(padding: ops.Padding) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.Conv3d: _conv,
    ops.ConvTranspose1d: _conv_transpose,
    ops.ConvTranspose2d: _conv_transpose,
    ops.AvgPool: _avg_pool,
    ops.SumPool: _sum_pool,
    ops.LPPool: _lp_pool,
    ops.MaxPool: _max_pool,
}
"""Kind -> rule."""
