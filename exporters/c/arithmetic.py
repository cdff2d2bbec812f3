"""What combines inputs with each other, and with numbers that were learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from psu_deploy.exporters.c.loops import broadcast_strides, nest, place, strides_of
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def _elementwise(operator: str) -> Callable[[Any, Scope], None]:
    def rule(layer: Any, scope: Scope) -> None:
        scope.say(f"y = {f' {operator} '.join(scope.inputs)}")
        _combine(
            scope, [(name, shape) for name, shape in zip(scope.inputs, scope.shapes, strict=True)], f" {operator} "
        )

    return rule


def _combine(scope: Scope, operands: Sequence[tuple[str, Shape]], operator: str) -> None:
    """`y = a operator b ...`, features lined up at the last axes."""
    whole = prod(scope.shape)
    if all(shape == scope.shape for _, shape in operands):
        scope.count("i", whole)
        scope.line(f"y[i] = {operator.join(f'{name}[i]' for name, _ in operands)};")
        scope.close()
        return
    indices, opened = nest(scope, scope.shape)
    terms = [f"{name}[{place(indices, broadcast_strides(shape, len(scope.shape)))}]" for name, shape in operands]
    scope.line(f"y[{place(indices, strides_of(scope.shape))}] = {operator.join(terms)};")
    scope.close(opened)


def _affine(layer: ops.Affine, scope: Scope) -> None:
    scope.say("y = scale * x + shift")
    axes = len(scope.shape)
    scale, shift = scope.constant(layer.scale, "scale"), scope.constant(layer.shift, "shift")
    indices, opened = nest(scope, scope.shape)
    shapes = (scope.features, layer.scale.shape, layer.shift.shape)
    x, s, b = (place(indices, broadcast_strides(shape, axes)) for shape in shapes)
    scope.line(f"y[{place(indices, strides_of(scope.shape))}] = x[{x}] * {scale}[{s}] + {shift}[{b}];")
    scope.close(opened)


def _matmul(layer: ops.MatMul, scope: Scope) -> None:
    """Rows of the second factor are added up where the first is not zero."""
    scope.say("y[i, j] = sum over k of x0[i, k] x1[k, j]; the k with x0[i, k] = 0 are left out.")
    first, second = scope.shapes
    axes = len(scope.shape) - 2
    n, k, m = first[-2], first[-1], second[-1]
    indices, opened = nest(scope, scope.shape[:-2], "b")
    a = place(indices, _front(first, axes))
    b = place(indices, _front(second, axes))
    out = place(indices, strides_of(scope.shape)[:-2])
    scope.count("i", n)
    scope.line(f"float *row = y + {_sum(out, f'i * {m}')};", f"memset(row, 0, {m} * sizeof *row);")
    scope.count("k", k)
    scope.line(f"const float v = x0[{_sum(a, f'i * {k} + k')}];")
    scope.open("if (v == 0.0f)")
    scope.line("continue;")
    scope.close()
    scope.count("j", m)
    scope.line(f"row[j] += v * x1[{_sum(b, f'k * {m} + j')}];")
    scope.close(opened + 3)


def _front(shape: Shape, axes: int) -> tuple[int, ...]:
    """Strides of the axes in front of a matrix, lined up at the last of so many."""
    return broadcast_strides(shape, axes + 2)[:-2]


def _sum(*terms: str) -> str:
    return " + ".join(term for term in terms if term != "0")


def _project(layer: ops.Project, scope: Scope) -> None:
    scope.say("y[a, j, b] = sum over i of M[j, i] x[a, i, b]")
    matrix = scope.constant(layer.matrix, "matrix")
    new, size = layer.matrix.shape
    before, behind = prod(scope.features[: layer.axis]), prod(scope.features[layer.axis + 1 :])
    scope.count("a", before)
    scope.count("j", new)
    scope.line(f"float *row = y + (a * {new} + j) * {behind};", f"memset(row, 0, {behind} * sizeof *row);")
    scope.count("i", size)
    scope.line(f"const float m = {matrix}[j * {size} + i];")
    scope.count("b", behind)
    scope.line(f"row[b] += m * x[(a * {size} + i) * {behind} + b];")
    scope.close(4)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Add: _elementwise("+"),
    ops.Multiply: _elementwise("*"),
    ops.Subtract: _elementwise("-"),
    ops.Divide: _elementwise("/"),
    ops.Affine: _affine,
    ops.MatMul: _matmul,
    ops.Project: _project,
}
"""Kind -> rule."""
