"""What moves features -> ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops


def _flatten(layer: ops.Flatten, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return scope.builder.op("Flatten", inputs[0], name=scope.name, axis=1)


def reshaped(value: ir.Value, features: Sequence[int], name: str, scope: Scope) -> ir.Value:
    """(B, ...) with other features; a 0 stands for the batch as it is."""
    return scope.builder.op("Reshape", value, scope.builder.integers([0, *features], f"{name}.shape"), name=name)


def _reshape(layer: ops.Reshape, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return reshaped(inputs[0], layer.shape, scope.name, scope)


def _permute(layer: ops.Permute, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return transposed(inputs[0], layer.axes, scope.name, scope)


def transposed(value: ir.Value, axes: Sequence[int], name: str, scope: Scope) -> ir.Value:
    """Feature axes in another order."""
    return scope.builder.op("Transpose", value, name=name, perm=[0, *(axis + 1 for axis in axes)])


def _take(layer: ops.Take, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name, axis = scope.builder, scope.name, layer.axis + 1
    if layer.steps is None:
        return b.op("Gather", inputs[0], b.integers(layer.indices, f"{name}.indices"), name=name, axis=axis)
    first, last = layer.indices[0], layer.indices[-1]
    bounds = [b.integers([n], f"{name}.{what}") for n, what in ((first, "start"), (last + 1, "end"), (axis, "axis"))]
    return b.op("Slice", inputs[0], *bounds, b.integers([layer.steps], f"{name}.step"), name=name)


def _concat(layer: ops.Concat, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return scope.builder.op("Concat", *inputs, name=scope.name, axis=layer.axis + 1)


def widened(value: ir.Value, features: Sequence[int], axes: int, name: str, scope: Scope) -> ir.Value:
    """With ones behind the batch, so that there are at least so many feature axes."""
    missing = axes - len(features)
    return value if missing <= 0 else reshaped(value, [*[1] * missing, *features], name, scope)


def aligned(inputs: Sequence[ir.Value], scope: Scope) -> list[ir.Value]:
    """Every input with as many axes as the one that has the most."""
    axes = max(map(len, scope.shapes))
    pairs = zip(inputs, scope.shapes, strict=True)
    return [widened(value, features, axes, f"{scope.name}.widened", scope) for value, features in pairs]


def _expand(layer: ops.Expand, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    wide = widened(inputs[0], scope.features, len(layer.shape), f"{name}.widened", scope)
    return b.op("Expand", wide, b.integers([1, *layer.shape], f"{name}.shape"), name=name)


def _constant_pad(layer: ops.ConstantPad, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return padded(inputs[0], layer.padding, layer.value, scope.name, scope)


def padded(value: ir.Value, padding: ops.Padding, number: float, name: str, scope: Scope) -> ir.Value:
    """A number around the features."""
    b = scope.builder
    before, after = ([pair[end] for pair in padding] for end in (0, 1))
    pads = b.integers([0, *before, 0, *after], f"{name}.pads")
    return b.op("Pad", value, pads, b.floats(number, f"{name}.value"), name=name)


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Flatten: _flatten,
    ops.Reshape: _reshape,
    ops.Permute: _permute,
    ops.Take: _take,
    ops.Concat: _concat,
    ops.Expand: _expand,
    ops.ConstantPad: _constant_pad,
}
"""Kind -> rule."""
