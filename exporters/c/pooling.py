"""Pools: windows that slide over axes, with bounds where there is padding."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from psu_deploy.exporters.c.functions import power
from psu_deploy.exporters.c.loops import nest, place, strides_of
from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops


def _average(layer: ops.AvgPool, scope: Scope) -> None:
    scope.say("y = mean of a window" if layer.count_padding else "y = mean of a window, padding not counted")
    counted = None if layer.count_padding else "count"
    divisor = f"(float)({counted})" if counted else literal(prod(layer.kernel))
    _windows(layer, scope, "0.0f", "sum += v;", f"sum / {divisor}", counted)


def _sum(layer: ops.SumPool, scope: Scope) -> None:
    scope.say("y = sum of a window")
    _windows(layer, scope, "0.0f", "sum += v;", "sum")


def _maximum(layer: ops.MaxPool, scope: Scope) -> None:
    scope.say("y = maximum of a window; padding never wins")
    _windows(layer, scope, "-HUGE_VALF", "sum = v > sum || v != v ? v : sum;", "sum")


def _norm(layer: ops.LPPool, scope: Scope) -> None:
    scope.say(f"y = (sum of x**p) ** (1/p) over a window, p = {layer.norm!r}")
    _windows(layer, scope, "0.0f", f"sum += {power('v', layer.norm)};", power("sum", 1 / layer.norm))


def _windows(layer: Any, scope: Scope, start: str, add: str, result: str, counted: str | None = None) -> None:
    """One number for every window: `sum` begins with `start`, sees every v, and leaves `result`."""
    indices, opened = nest(scope, scope.shape, "q")
    scope.line(f"float sum = {start};", *([f"int {counted} = 0;"] if counted else []))
    seen = [indices[0]]
    axes = zip(scope.features[1:], layer.kernel, layer.stride, layer.padding, strict=True)
    for axis, (size, kernel, stride, (before, after)) in enumerate(axes):
        scope.count(f"k{axis}", kernel)
        start_at = place([indices[axis + 1]], [stride])
        scope.line(f"const int i{axis} = {start_at} + k{axis}{f' - {before}' if before else ''};")
        if before or after:
            scope.open(f"if (i{axis} < 0 || i{axis} >= {size})")
            scope.line("continue;")
            scope.close()
        seen.append(f"i{axis}")
    scope.line(f"const float v = x[{place(seen, strides_of(scope.features))}];", add)
    scope.line(*([f"{counted}++;"] if counted else []))
    scope.close(len(layer.kernel))
    scope.line(f"y[{place(indices, strides_of(scope.shape))}] = {result};")
    scope.close(opened)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.AvgPool: _average,
    ops.SumPool: _sum,
    ops.MaxPool: _maximum,
    ops.LPPool: _norm,
}
"""Kind -> rule."""
