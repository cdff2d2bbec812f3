"""Layers with a memory of their own that are no neurons: delays, held values, filters, readouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psu_deploy.exporters.c.linear import shift_in
from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.operators import lower_operator
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops


def _delay(layer: ops.Delay, scope: Scope) -> None:
    scope.say(f"y[t] = x[t - {layer.steps}]; what waits is kept, oldest first.")
    kept = scope.state("buffer")
    scope.line(f"memcpy(y, {kept}, {scope.size} * sizeof *y);")
    shift_in(scope, kept, layer.steps, scope.size)


def _filter(layer: ops.Filter, scope: Scope) -> None:
    found = lower_operator(layer.operator, "y", "x", scope)
    scope.say(f"y = {found.says}")
    scope.line(*found.before)
    scope.count("i", scope.size)
    scope.line("const float current = x[i];", *found.inside("current", "value"), "y[i] = value;")
    scope.close()
    scope.line(*found.after("x"))


def _hold(layer: ops.Hold, scope: Scope) -> None:
    scope.say("y = the first x, for ever")
    held = scope.state("value")
    scope.open(f"if ({scope.step()} == 0)")
    scope.line(f"memcpy({held}, x, {scope.size} * sizeof *x);")
    scope.close()
    scope.line(f"memcpy(y, {held}, {scope.size} * sizeof *y);")


def _hand_over(layer: ops.HandOver, scope: Scope) -> None:
    scope.say("V[t] = x0[t] + decay * 2 sin(theta U[t-1] cos(theta V[t-1])), U = x1; y = V")
    theta, decay = literal(layer.theta), literal(layer.decay)
    first, second = scope.state("U"), scope.state("V")
    scope.count("i", scope.size)
    scope.line(
        f"const float angle = {theta} * {first}[i] * cosf({theta} * {second}[i]);",
        f"{second}[i] = x0[i] + {decay} * (2.0f * sinf(angle));",
        f"{first}[i] = x1[i];",
        f"y[i] = {second}[i];",
    )
    scope.close()


def _readout(layer: ops.Readout, scope: Scope) -> None:
    scope.say(f"y = {layer.kind} of all steps so far" if layer.kind != "last" else "y = x")
    if layer.kind == "last":
        scope.line(f"memcpy(y, x, {scope.size} * sizeof *y);")
        return
    kept = scope.state("best" if layer.keeps_spikes else "sum")
    if layer.keeps_spikes:
        _best(layer, scope, kept)
        return
    value = f"{kept}[i]"
    if layer.kind == "mean":
        scope.line(f"const float steps = (float)({scope.step()} + 1);")
        value = f"{value} / steps"
    scope.count("i", scope.size)
    scope.line(f"{kept}[i] += x[i];", f"y[i] = {value};")
    scope.close()


def _best(layer: ops.Readout, scope: Scope, kept: str) -> None:
    scope.line(f"const int first = {scope.step()} == 0;")
    scope.count("i", scope.size)
    better = ">" if layer.kind == "max" else "<"
    scope.line(
        f"{kept}[i] = first || x[i] {better} {kept}[i] || x[i] != x[i] ? x[i] : {kept}[i];", f"y[i] = {kept}[i];"
    )
    scope.close()


def _mean_of_last(layer: ops.MeanOfLast, scope: Scope) -> None:
    scope.say(f"y = mean of the last {layer.steps} steps, of as many as there are at the beginning")
    if layer.steps == 1:
        scope.line(f"memcpy(y, x, {scope.size} * sizeof *y);")
        return
    kept, step = scope.state("buffer"), scope.step()
    scope.line(f"const float steps = (float)({step} + 1 < {layer.steps} ? {step} + 1 : {layer.steps});")
    scope.count("i", scope.size)
    scope.line("float sum = 0.0f;")
    scope.count("l", layer.steps - 1)
    scope.line(f"sum += {kept}[l * {scope.size} + i];")
    scope.close()
    scope.line("y[i] = (sum + x[i]) / steps;")
    scope.close()
    shift_in(scope, kept, layer.steps - 1, scope.size)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Delay: _delay,
    ops.Wait: _delay,
    ops.Filter: _filter,
    ops.Hold: _hold,
    ops.HandOver: _hand_over,
    ops.Readout: _readout,
    ops.MeanOfLast: _mean_of_last,
}
"""Kind -> rule."""
