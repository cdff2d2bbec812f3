"""LayerNorm, RMSNorm, GroupNorm -> ONNX nodes.

In single steps, from the deviations: LayerNormalization of onnxruntime takes the squared mean from the mean square, and
so does what its optimiser makes of a power, a root and a division. Products and a reciprocal it leaves be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import onnx_ir as ir

from psu_deploy.exporters.onnx.functions import Formula
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops


def _layer_norm(layer: ops.LayerNorm, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f, axes = Formula(scope), range(-len(layer.shape), 0)
    return _scaled(f, _divided(f, _centred(f, inputs[0], axes), layer.eps, axes), layer.weight, layer.bias)


def _rms_norm(layer: ops.RMSNorm, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f, axes = Formula(scope), range(-len(layer.shape), 0)
    return _scaled(f, _divided(f, inputs[0], layer.eps, axes), layer.weight, None)


def _group_norm(layer: ops.GroupNorm, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """One row for each group, and back."""
    f, axes, features = Formula(scope), range(-1, 0), scope.features
    rows = f("Reshape", inputs[0], f.sizes(0, layer.groups, prod(features) // layer.groups))
    y = f("Reshape", _divided(f, _centred(f, rows, axes), layer.eps, axes), f.sizes(0, *features))
    per_channel = [None if a is None else a.reshape(-1, *[1] * (len(features) - 1)) for a in (layer.weight, layer.bias)]
    return _scaled(f, y, *per_channel)


def _centred(f: Formula, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    return f("Sub", x, f("ReduceMean", x, f.sizes(*axes), keepdims=1))


def _divided(f: Formula, x: ir.Value, eps: float, axes: Sequence[int]) -> ir.Value:
    """`x / sqrt(mean(x**2) + eps)`."""
    square = f("ReduceMean", f("Mul", x, x), f.sizes(*axes), keepdims=1)
    return f("Mul", x, f("Reciprocal", f("Sqrt", f("Add", square, eps))))


def _scaled(f: Formula, x: ir.Value, weight: Any, bias: Any) -> ir.Value:
    x = x if weight is None else f("Mul", x, f.constant(weight, "weight"))
    return x if bias is None else f("Add", x, f.constant(bias, "bias"))


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.LayerNorm: _layer_norm,
    ops.RMSNorm: _rms_norm,
    ops.GroupNorm: _group_norm,
}
"""Kind -> rule."""

WRITTEN = ("Reciprocal", "ReduceMean", "Sqrt")
"""The operators that these rules write beside those of all."""
