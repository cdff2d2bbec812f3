"""Causal operators -> ONNX nodes for one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array


def advance(operator: ops.CausalOperator, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    """Append one step of an operator; its next state goes into the scope."""
    return OPERATORS[type(operator)](operator, role, x, scope)


def _identity(operator: ops.Identity, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    return x


def _leak(operator: ops.Leak, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    name = f"{scope.name}.{role}"
    decayed = _scaled(scope.state(role), operator.decay, f"{name}.decay", scope)
    total = scope.builder.op("Add", decayed, _scaled(x, operator.gain, f"{name}.gain", scope), name=f"{name}.total")
    scope.set_state(role, total)
    return total


def _strict_leak(operator: ops.StrictLeak, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    b, name = scope.builder, f"{scope.name}.{role}"
    total = b.op("Add", scope.state(role), _scaled(x, operator.gain, f"{name}.gain", scope), name=f"{name}.total")
    decay = _scalar(operator.decay, f"{name}.decay", scope)
    scope.set_state(role, b.op("Mul", total, decay, name=f"{name}.decayed"))
    return scope.state(role)


def _exponentials(operator: ops.Exponentials, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    b, name = scope.builder, f"{scope.name}.{role}"
    terms = (1, -1, *[1] * len(scope.features))
    current = b.op("Unsqueeze", x, b.integers([1], "axis_1"), name=f"{name}.current")
    decays, gains = operator.decays.reshape(terms), operator.gains.reshape(terms)
    decayed = b.op("Mul", scope.state(role), b.floats(decays, f"{name}.decays"), name=f"{name}.decayed")
    driven = b.op("Mul", current, b.floats(gains, f"{name}.gains"), name=f"{name}.driven")
    traces = b.op("Add", decayed, driven, name=f"{name}.traces")
    scope.set_state(role, traces)
    total = b.op("ReduceSum", traces, b.integers([1], "axis_1"), name=f"{name}.total", keepdims=0)
    if operator.bias:
        total = b.op("Add", total, _scalar(operator.bias, f"{name}.bias", scope), name=f"{name}.biased")
    return total


def _partial_sums(operator: ops.PartialSums, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    """Row t of every table belongs to step t; a step past the horizon is an index error of the runtime."""
    b, name, steps = scope.builder, f"{scope.name}.{role}", len(operator.bias)
    ones = [1] * len(scope.features)
    total = b.op(
        "Mul", x, _row(np.diag(operator.matrix).reshape(-1, 1, *ones), f"{name}.now", scope), name=f"{name}.drive"
    )
    if steps > 1:
        sums = scope.state(role)
        due = b.op("Gather", sums, scope.previous_step(), name=f"{name}.due", axis=1)
        total = b.op("Add", total, due, name=f"{name}.total")
        columns = np.tril(operator.matrix, -1)[1:].T.reshape(-1, 1, steps - 1, *ones)
        driven = _spread(x, _row(columns, f"{name}.later", scope), name, scope)
        scope.set_state(role, b.op("Add", sums, driven, name=f"{name}.sums"))
    if operator.bias.any():
        bias = _row(operator.bias.reshape(-1, 1, *ones), f"{name}.bias", scope)
        total = b.op("Add", total, bias, name=f"{name}.biased")
    return total


def _window(operator: ops.Window, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    """The first column entry feeds this step's sum, the others the sums still to come, shifted by one."""
    b, name, order = scope.builder, f"{scope.name}.{role}", operator.order
    ones = [1] * len(scope.features)

    def row(table: Array, what: str) -> ir.Value:
        shaped = table.reshape(len(table), 1, *table.shape[1:], *ones)
        return (
            b.floats(shaped[0], f"{name}.{what}") if operator.time_invariant else _row(shaped, f"{name}.{what}", scope)
        )

    total = b.op("Mul", x, row(operator.columns[:, 0], "now"), name=f"{name}.drive")
    if order > 1:
        pending = scope.state(role)
        due = b.op("Gather", pending, b.integers(0, "first"), name=f"{name}.due", axis=1)
        total = b.op("Add", total, due, name=f"{name}.total")
        driven = _spread(x, row(operator.columns[:, 1:], "later"), name, scope)
        if order > 2:  # else nothing is left of what was pending
            driven = b.op("Add", _shifted(pending, order - 1, name, scope), driven, name=f"{name}.sums")
        scope.set_state(role, driven)
    if operator.bias.any():
        total = b.op("Add", total, row(operator.bias, "bias"), name=f"{name}.biased")
    return total


OPERATORS: dict[type, Callable[[Any, str, ir.Value, Scope], ir.Value]] = {
    ops.Identity: _identity,
    ops.Leak: _leak,
    ops.StrictLeak: _strict_leak,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind -> rule; what is not here was refused before."""


def _spread(x: ir.Value, column: ir.Value, name: str, scope: Scope) -> ir.Value:
    """x times a column: (B, *features), (1, k, 1, ...) -> (B, k, *features)."""
    current = scope.builder.op("Unsqueeze", x, scope.builder.integers([1], "axis_1"), name=f"{name}.current")
    return scope.builder.op("Mul", current, column, name=f"{name}.driven")


def _shifted(pending: ir.Value, length: int, name: str, scope: Scope) -> ir.Value:
    """Drop the sum that is due, append a zero. Not by a Pad of -1 alone: not every engine knows that."""
    b, rest = scope.builder, [0] * len(scope.features)
    end, axis = b.integers([length], "end"), b.integers([1], "axis_1")
    later = b.op("Slice", pending, b.integers([1], "start"), end, axis, name=f"{name}.kept")
    pads = b.integers([0, 0, *rest, 0, 1, *rest], f"{name}.shift")
    return b.op("Pad", later, pads, name=f"{name}.shifted")


def _row(table: Array, name: str, scope: Scope) -> ir.Value:
    """Row t of a table at step t: (T, ...) -> (...)."""
    return scope.builder.op("Gather", scope.builder.floats(table, f"{name}s"), scope.counter(), name=name, axis=0)


def _scaled(value: ir.Value, factor: float, name: str, scope: Scope) -> ir.Value:
    """value * factor; no node for a factor of exactly one."""
    if factor == 1.0:
        return value
    return scope.builder.op("Mul", value, _scalar(factor, name, scope), name=f"{name}ed")


def _scalar(value: float, name: str, scope: Scope) -> ir.Value:
    return scope.builder.floats(value, name)
