"""What makes one number of many, and what orders numbers by size."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from psu_deploy.exporters.c.loops import nest, place, strides_of
from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops

_STEPS = {
    "mean": ("0.0f", "sum += v;"),
    "sum": ("0.0f", "sum += v;"),
    "max": ("-HUGE_VALF", "sum = v > sum || v != v ? v : sum;"),
    "min": ("HUGE_VALF", "sum = v < sum || v != v ? v : sum;"),
}


def _reduce(layer: ops.Reduce, scope: Scope) -> None:
    scope.say(f"y = {layer.kind} over the axes {layer.axes}")
    gone = set(layer.axes)
    kept = tuple(1 if axis in gone else n for axis, n in enumerate(scope.features))
    over = tuple(n if axis in gone else 1 for axis, n in enumerate(scope.features))
    indices, opened = nest(scope, kept)
    start, add = _STEPS[layer.kind]
    scope.line(f"float sum = {start};")
    inner, more = nest(scope, over, "k")
    strides = strides_of(scope.features)
    at = place([*indices, *inner], [*strides, *strides])
    scope.line(f"const float v = x[{at}];", add)
    scope.close(more)
    result = f"sum / {literal(prod(over))}" if layer.kind == "mean" else "sum"
    scope.line(f"y[{place(indices, strides_of(kept))}] = {result};")
    scope.close(opened)


def _select(layer: Any, scope: Scope, count: int, largest: bool, *, places: bool) -> None:
    """Again and again the largest of those that come after the last one: of equal ones, the first is first."""
    axis = layer.axis
    before, size, behind = prod(scope.features[:axis]), scope.features[axis], prod(scope.features[axis + 1 :])
    more = ">" if largest else "<"
    scope.count("a", before)
    scope.count("b", behind)
    scope.line(f"const float *v = x + a * {size * behind} + b;", "int last = -1;")
    scope.count("j", count)
    scope.line("int best = -1;")
    scope.count("i", size)
    after = (
        f"last < 0 || v[last * {behind}] {more} v[i * {behind}] || (v[last * {behind}] == v[i * {behind}] && i > last)"
    )
    scope.line(f"const int left = {after};")
    scope.open(f"if (left && (best < 0 || v[i * {behind}] {more} v[best * {behind}]))")
    scope.line("best = i;")
    scope.close(2)
    scope.line(f"y[(a * {count} + j) * {behind} + b] = {'(float)best' if places else f'v[best * {behind}]'};")
    scope.line("last = best;")
    scope.close(3)


def _top_k(layer: ops.TopK, scope: Scope) -> None:
    scope.say(f"y = the {'largest' if layer.largest else 'smallest'} numbers along axis {layer.axis}, in order")
    _select(layer, scope, layer.count, layer.largest, places=False)


def _arg_top_k(layer: ops.ArgTopK, scope: Scope) -> None:
    scope.say(f"y = places of the {'largest' if layer.largest else 'smallest'} numbers along axis {layer.axis}")
    _select(layer, scope, layer.count, layer.largest, places=True)


def _arg_max(layer: ops.ArgMax, scope: Scope) -> None:
    scope.say(f"y = place of the largest number along axis {layer.axis}; of equal ones the first")
    _select(layer, scope, 1, True, places=True)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Reduce: _reduce,
    ops.TopK: _top_k,
    ops.ArgTopK: _arg_top_k,
    ops.ArgMax: _arg_max,
}
"""Kind -> rule."""
