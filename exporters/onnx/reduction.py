"""Reductions over feature axes and over time -> ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops

_REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}


def _reduce(layer: ops.Reduce, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    axes = b.integers([axis + 1 for axis in layer.axes], f"{name}.axes")
    return b.op(_REDUCTIONS[layer.kind], inputs[0], axes, name=name, keepdims=int(layer.keepdims))


def _arg_max(layer: ops.ArgMax, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    place = b.op("ArgMax", inputs[0], name=f"{name}.place", axis=layer.axis + 1, keepdims=int(layer.keepdims))
    return b.op("Cast", place, name=name, to=int(ir.DataType.FLOAT))


def _top_k(layer: ops.TopK, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return _ranked(layer, inputs[0], scope, scope.name, f"{scope.name}.places")[0]


def _arg_top_k(layer: ops.ArgTopK, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """Of equal ones the first, as ONNX has it."""
    _, places = _ranked(layer, inputs[0], scope, f"{scope.name}.values", f"{scope.name}.places")
    return scope.builder.op("Cast", places, name=scope.name, to=int(ir.DataType.FLOAT))


def _ranked(layer: ops.TopK | ops.ArgTopK, x: ir.Value, scope: Scope, *names: str) -> tuple[ir.Value, ...]:
    b = scope.builder
    count = b.integers([layer.count], f"{scope.name}.count")
    return b.ops("TopK", x, count, names=names, axis=layer.axis + 1, largest=int(layer.largest), sorted=1)


def _readout(layer: ops.Readout, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    if layer.kind == "last":
        return inputs[0]
    if layer.kind in _BETTER:
        return _best(_BETTER[layer.kind], inputs[0], scope)
    total = b.op("Add", scope.state("sum"), inputs[0], name=f"{name}.total")
    scope.set_state("sum", total)
    if layer.kind == "sum":
        return total
    return b.op("Div", total, scope.steps_done(), name=name)


_BETTER = {"max": "Max", "min": "Min"}


def _best(better: str, x: ir.Value, scope: Scope) -> ir.Value:
    """The step itself in the first step, whatever the state."""
    b, name = scope.builder, scope.name
    first = b.op("Equal", scope.counter(), b.integers(0, "first"), name=f"{name}.is_first")
    best = b.op("Where", first, x, b.op(better, scope.state("best"), x, name=f"{name}.best"), name=name)
    scope.set_state("best", best)
    return best


def _mean_of_last(layer: ops.MeanOfLast, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    if layer.steps == 1:
        return inputs[0]
    b, name = scope.builder, scope.name
    axis = b.integers([1], "axis_1")
    newest = b.op("Unsqueeze", inputs[0], axis, name=f"{name}.newest")
    window = b.op("Concat", scope.state("buffer"), newest, name=f"{name}.window", axis=1)
    end = b.integers([layer.steps], "end")
    scope.set_state("buffer", b.op("Slice", window, b.integers([1], "start"), end, axis, name=f"{name}.kept"))
    total = b.op("ReduceSum", window, axis, name=f"{name}.total", keepdims=0)
    count = b.op("Min", scope.steps_done(), b.floats(layer.steps, f"{name}.most"), name=f"{name}.terms")
    return b.op("Div", total, count, name=name)


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Reduce: _reduce,
    ops.ArgMax: _arg_max,
    ops.TopK: _top_k,
    ops.ArgTopK: _arg_top_k,
    ops.Readout: _readout,
    ops.MeanOfLast: _mean_of_last,
}
"""Kind -> rule."""
