"""What adds, multiplies and divides -> ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.exporters.onnx.shape import aligned, transposed, widened
from psu_deploy.machine import ops


def _left_to_right(kind: str) -> Callable[[ops.Layer, Sequence[ir.Value], Scope], ir.Value]:
    def rule(layer: ops.Layer, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
        result, *others = aligned(inputs, scope)
        for other in others:
            result = scope.builder.op(kind, result, other, name=scope.name)
        return result

    return rule


def _affine(layer: ops.Affine, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    x = widened(inputs[0], scope.features, max(layer.scale.ndim, layer.shift.ndim), f"{name}.widened", scope)
    scaled = b.op("Mul", x, b.floats(layer.scale, f"{name}.scale"), name=f"{name}.scaled")
    return b.op("Add", scaled, b.floats(layer.shift, f"{name}.shift"), name=name)


def _project(layer: ops.Project, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """The matrix from the right along the last axis, from the left along the last but one."""
    b, name, axes = scope.builder, scope.name, len(scope.features)
    if layer.axis == axes - 1:
        return b.op("MatMul", inputs[0], b.floats(layer.matrix.T, f"{name}.matrix"), name=name)
    matrix = b.floats(layer.matrix, f"{name}.matrix")
    if layer.axis == axes - 2:
        return b.op("MatMul", matrix, inputs[0], name=name)
    swapped = list(range(axes))
    swapped[layer.axis], swapped[-2] = axes - 2, layer.axis
    moved = transposed(inputs[0], swapped, f"{name}.moved", scope)
    return transposed(b.op("MatMul", matrix, moved, name=f"{name}.mixed"), swapped, name, scope)


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Add: _left_to_right("Add"),
    ops.Multiply: _left_to_right("Mul"),
    ops.Subtract: _left_to_right("Sub"),
    ops.Divide: _left_to_right("Div"),
    ops.MatMul: _left_to_right("MatMul"),
    ops.Affine: _affine,
    ops.Project: _project,
}
"""Kind -> rule."""
