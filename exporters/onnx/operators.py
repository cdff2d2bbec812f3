"""Causal operators -> ONNX nodes for one step."""

from __future__ import annotations

import onnx_ir as ir

from psu_deploy.errors import InternalError
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import operators


def advance(operator: operators.Operator, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    """Append one step of an operator; its next state goes into the scope."""
    match operator:
        case operators.Identity():
            return x
        case operators.StrictLeak(gain, decay):
            return _strict_leak(gain, decay, role, x, scope)
        case operators.Leak(gain, decay):
            return _leak(gain, decay, role, x, scope)
        case operators.PartialSums():
            return _partial_sums(operator, role, x, scope)
        case operators.Exponentials():
            return _exponentials(operator, role, x, scope)
    raise InternalError(f"the ONNX exporter has no rule for {type(operator).__name__}")


def _leak(gain: float, decay: float, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    name = f"{scope.name}.{role}"
    decayed = _scaled(scope.state(role), decay, f"{name}.decay", scope)
    total = scope.builder.op("Add", decayed, _scaled(x, gain, f"{name}.gain", scope), name=f"{name}.total")
    scope.set_state(role, total)
    return total


def _strict_leak(gain: float, decay: float, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    name = f"{scope.name}.{role}"
    total = scope.builder.op("Add", scope.state(role), _scaled(x, gain, f"{name}.gain", scope), name=f"{name}.total")
    scope.set_state(role, scope.builder.op("Mul", total, _scalar(decay, f"{name}.decay", scope), name=f"{name}.decayed"))
    return scope.state(role)


def _exponentials(operator: operators.Exponentials, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    b, name = scope.builder, f"{scope.name}.{role}"
    terms = (1, -1, *[1] * len(scope.features))
    current = b.op("Unsqueeze", x, b.integers([1], "axis_1"), name=f"{name}.current")
    decays, gains = operator.decays.reshape(terms), operator.gains.reshape(terms)
    decayed = b.op("Mul", scope.state(role), b.floats(decays, f"{name}.decays"), name=f"{name}.decayed")
    driven = b.op("Mul", current, b.floats(gains, f"{name}.gains"), name=f"{name}.driven")
    traces = b.op("Add", decayed, driven, name=f"{name}.traces")
    scope.set_state(role, traces)
    return b.op("ReduceSum", traces, b.integers([1], "axis_1"), name=f"{name}.total", keepdims=0)


def _partial_sums(operator: operators.PartialSums, role: str, x: ir.Value, scope: Scope) -> ir.Value:
    """The first column entry feeds this step's sum, the others the sums still to come, shifted by one."""
    b, name = scope.builder, f"{scope.name}.{role}"
    ones = [1] * len(scope.features)
    now = _row(operator, operator.columns[:, :1].reshape(-1, 1, *ones), f"{name}.now", scope)
    total = b.op("Mul", x, now, name=f"{name}.drive")
    if operator.order > 1:
        pending = scope.state(role)
        due = b.op("Gather", pending, b.integers(0, "first"), name=f"{name}.due", axis=1)
        total = b.op("Add", total, due, name=f"{name}.total")
        rest = operator.columns[:, 1:].reshape(-1, 1, operator.order - 1, *ones)
        later = _row(operator, rest, f"{name}.later", scope)
        current = b.op("Unsqueeze", x, b.integers([1], "axis_1"), name=f"{name}.current")
        driven = b.op("Mul", current, later, name=f"{name}.driven")
        scope.set_state(role, b.op("Add", _shifted(pending, name, scope), driven, name=f"{name}.sums"))
    if operator.bias.any():
        bias = _row(operator, operator.bias.reshape(-1, 1, *ones), f"{name}.bias", scope)
        total = b.op("Add", total, bias, name=f"{name}.biased")
    return total


def _shifted(pending: ir.Value, name: str, scope: Scope) -> ir.Value:
    """Drop the sum that is due, append a zero: a Pad by -1 in front and 1 behind."""
    rest = [0] * len(scope.features)
    pads = scope.builder.integers([0, -1, *rest, 0, 1, *rest], f"{name}.shift")
    return scope.builder.op("Pad", pending, pads, name=f"{name}.shifted")


def _row(operator: operators.PartialSums, table: operators.Array, name: str, scope: Scope) -> ir.Value:
    """The table's row of this step, shape (1, ...). A step past the horizon is an index error of the runtime."""
    if operator.time_invariant:
        return scope.builder.floats(table, name)
    rows = scope.builder.floats(table[:, 0], f"{name}s")
    return scope.builder.op("Gather", rows, scope.counter(), name=name, axis=0)


def _scaled(value: ir.Value, factor: float, name: str, scope: Scope) -> ir.Value:
    """value * factor; no node for a factor of exactly one."""
    if factor == 1.0:
        return value
    return scope.builder.op("Mul", value, _scalar(factor, name, scope), name=f"{name}ed")


def _scalar(value: float, name: str, scope: Scope) -> ir.Value:
    return scope.builder.floats(value, name)
