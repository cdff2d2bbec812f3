"""Neuron layers -> C: one loop over the neurons, and what the learned operators leave to do after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.operators import LoweredOperator, lower_operator
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops
from psu_deploy.numerics.noise import PRIME


def _spiking_neuron(layer: ops.SpikingNeuron, scope: Scope) -> None:
    """V, E and R as the operators say, in the order of the machine."""
    parts: dict[str, LoweredOperator] = {}
    for role, operator in layer.operators.items():
        parts[role] = lower_operator(operator, role, "S'" if role == "R" else "x", scope)
        scope.say(f"{role} = {parts[role].says}")
    threshold = literal(layer.threshold)
    reset = " - R" if "R" in parts else ""
    scope.say(f"S = 1 if V{reset} - {threshold} {layer.fire_on} 0 else 0")
    scope.line(*(line for part in parts.values() for line in part.before))
    kept = scope.room("estimated", scope.size) if "R" in parts and parts["R"].leaves else None
    scope.count("i", scope.size)
    scope.line("const float current = x[i];", *parts["V"].inside("current", "v"))
    if layer.reset is not None:
        _reset(layer, parts, kept, scope)
    _fire(f"v{' - r' if reset else ''} - {threshold}", layer.fire_on, "r" if reset else "0.0f", scope)
    scope.close()
    for role, part in parts.items():
        scope.line(*part.after("estimated" if role == "R" else "x"))


def _reset(layer: ops.SpikingNeuron, parts: dict[str, LoweredOperator], kept: str | None, scope: Scope) -> None:
    seen = "v"
    if "E" in parts:
        seen = "e"
        scope.line(*parts["E"].inside("current", "e"))
    ESTIMATORS[type(layer.estimator)](layer.estimator, seen, scope)
    if kept:
        scope.line(f"{kept}[i] = estimate;")
    scope.line(*parts["R"].inside("estimate", "r"))


def _fire(margin: str, fire_on: str, reset: str, scope: Scope) -> None:
    scope.line(f"const float margin = {margin};", f"y[i] = margin {fire_on} 0.0f ? 1.0f : 0.0f;")
    scope.see("v", reset, "margin")


def _sigmoid(estimator: ops.Sigmoid, seen: str, scope: Scope) -> None:
    scope.say(f"S' = 1 / (1 + exp(-{seen.upper()}))")
    scope.line(f"const float estimate = {scope.use('sigmoid')}({seen});")


def _raw_current(estimator: ops.RawCurrent, seen: str, scope: Scope) -> None:
    scope.say(f"S' = {seen.upper()}")
    scope.line(f"const float estimate = {seen};")


def _staircase(estimator: ops.Staircase, seen: str, scope: Scope) -> None:
    thresholds = scope.constant(estimator.thresholds, "stairs")
    height, offset = literal(estimator.height), literal(estimator.offset)
    scope.say(f"S' = {offset} + {height} * number of stairs that {seen.upper()} reaches")
    scope.line("int reached = 0;")
    scope.count("k", len(estimator.thresholds))
    scope.line(f"reached += {seen} >= {thresholds}[k];")
    scope.close()
    scope.line(f"const float estimate = (float)reached * {height} + {offset};")


def _sigmoid_table(estimator: ops.SigmoidTable, seen: str, scope: Scope) -> None:
    scope.say(f"S' = a sigmoid of {seen.upper()} in whole numbers")
    scope.line(f"const float estimate = {scope.use('sigmoid_table')}({seen});")


ESTIMATORS: dict[type, Callable[[Any, str, Scope], None]] = {
    ops.Sigmoid: _sigmoid,
    ops.RawCurrent: _raw_current,
    ops.Staircase: _staircase,
    ops.SigmoidTable: _sigmoid_table,
}
"""Kind -> rule: `estimate`, the estimated spike S' of what is seen."""


def _lif_neuron(layer: ops.LIFNeuron, scope: Scope) -> None:
    """In the order of the reference interpreter, so that both round alike."""
    threshold, tau = literal(layer.threshold), None if layer.tau is None else literal(layer.tau)
    if tau is None:
        potential = "before + x[i]"
    elif layer.decay_input:
        potential = f"before + (x[i] - before) / {tau}"
    else:
        potential = f"before - before / {tau} + x[i]"
    left = f"v - {threshold} * y[i]" if layer.reset == "soft" else "v * (1.0f - y[i])"
    scope.say(f"H = {potential.replace('before', 'V').replace('x[i]', 'x')}")
    scope.say(f"S = 1 if H - {threshold} {layer.fire_on} 0 else 0")
    scope.say(f"V = {left.replace('v', 'H').replace('y[i]', 'S')}")
    scope.line(f"float *restrict V = {scope.state('V')};")
    scope.count("i", scope.size)
    scope.line("const float before = V[i];", f"const float v = {potential};")
    _fire(f"v - {threshold}", layer.fire_on, "0.0f", scope)
    scope.line(f"V[i] = {left};")
    scope.close()


def _bernoulli_neuron(layer: ops.BernoulliNeuron, scope: Scope) -> None:
    part = lower_operator(layer.integrate, "V", "x", scope)
    scope.say(f"V = {part.says}", "S = 1 if sigmoid(V) > u else 0, u drawn from seed, step and number of the neuron")
    scope.line(*part.before)
    scope.count("i", scope.size)
    scope.line("const float current = x[i];", *part.inside("current", "v"))
    number = f"{scope.sample()} * {scope.size} + i"
    drawn = f"{scope.use('uniform')}({layer.seed % PRIME}, {scope.step()}, {number})"
    _fire(f"{scope.use('sigmoid')}(v) - {drawn}", ">", "0.0f", scope)
    scope.close()
    scope.line(*part.after("x"))


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.SpikingNeuron: _spiking_neuron,
    ops.LIFNeuron: _lif_neuron,
    ops.BernoulliNeuron: _bernoulli_neuron,
}
"""Kind -> rule."""
