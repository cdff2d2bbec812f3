"""What moves features, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from psu_deploy.exporters.c.loops import broadcast_strides, nest, place, strides_of
from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops

ALIASES: dict[type, None] = {ops.Flatten: None, ops.Reshape: None}
"""What is the same numbers in the same order under another shape: no code at all."""


def _permute(layer: ops.Permute, scope: Scope) -> None:
    scope.say(f"y = x, its axes in the order {layer.axes}")
    strides = strides_of(scope.features)
    indices, opened = nest(scope, scope.shape)
    at = place(indices, [strides[axis] for axis in layer.axes])
    scope.line(f"y[{place(indices, strides_of(scope.shape))}] = x[{at}];")
    scope.close(opened)


def _take(layer: ops.Take, scope: Scope) -> None:
    """Entries that lie at regular distances need no table of their places."""
    scope.say(f"y = entries of axis {layer.axis} of x")
    axis, count = layer.axis, len(layer.indices)
    before, size, behind = prod(scope.features[:axis]), scope.features[axis], prod(scope.features[axis + 1 :])
    table = None if layer.steps is not None else scope.integers(layer.indices, "places")
    scope.count("a", before)
    scope.count("j", count)
    entry = f"{table}[j]" if table else f"({layer.indices[0]} + j * {layer.steps})"
    scope.line(
        f"memcpy(y + (a * {count} + j) * {behind}, x + (a * {size} + {entry}) * {behind}, {behind} * sizeof *x);"
    )
    scope.close(2)


def _concat(layer: ops.Concat, scope: Scope) -> None:
    scope.say(f"y = all inputs, side by side along axis {layer.axis}")
    sizes = [prod(shape[layer.axis :]) for shape in scope.shapes]
    scope.count("a", prod(scope.shape[: layer.axis]))
    start = 0
    for name, size in zip(scope.inputs, sizes, strict=True):
        scope.line(f"memcpy(y + a * {sum(sizes)} + {start}, {name} + a * {size}, {size} * sizeof *y);")
        start += size
    scope.close()


def _expand(layer: ops.Expand, scope: Scope) -> None:
    scope.say("y = x, axes of one entry repeated")
    indices, opened = nest(scope, scope.shape)
    at = place(indices, broadcast_strides(scope.features, len(scope.shape)))
    scope.line(f"y[{place(indices, strides_of(scope.shape))}] = x[{at}];")
    scope.close(opened)


def _constant_pad(layer: ops.ConstantPad, scope: Scope) -> None:
    scope.say(f"y = x with {layer.value!r} around it")
    scope.count("i", prod(scope.shape))
    scope.line(f"y[i] = {literal(layer.value)};")
    scope.close()
    strides = strides_of(scope.shape)
    indices, opened = nest(scope, scope.features)
    start = sum(before * stride for (before, _), stride in zip(layer.padding, strides, strict=True))
    scope.line(f"y[{place(indices, strides, start)}] = x[{place(indices, strides_of(scope.features))}];")
    scope.close(opened)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Permute: _permute,
    ops.Take: _take,
    ops.Concat: _concat,
    ops.Expand: _expand,
    ops.ConstantPad: _constant_pad,
}
"""Kind -> rule."""
