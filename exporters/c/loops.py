"""Loops over features: indices, strides, and what lines up with what."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine.ops.fields import Shape


def strides_of(shape: Shape) -> tuple[int, ...]:
    """Numbers from one entry of an axis to the next, the last axis fastest."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def broadcast_strides(shape: Shape, axes: int) -> tuple[int, ...]:
    """The same, lined up at the last of so many axes; 0 where an axis is not there or has one entry."""
    own = [0 if n == 1 else stride for n, stride in zip(shape, strides_of(shape), strict=True)]
    return (*[0] * (axes - len(shape)), *own)


def place(indices: Sequence[str], strides: Sequence[int], start: int = 0) -> str:
    """An index into an array: `i0 * 6 + i1`."""
    terms = [_term(i, stride) for i, stride in zip(indices, strides, strict=True) if stride and i != "0"]
    terms += [str(start)] if start else []
    return " + ".join(terms) or "0"


def _term(index: str, stride: int) -> str:
    return index if stride == 1 else f"{index} * {stride}"


def nest(scope: Scope, shape: Shape, letter: str = "i") -> tuple[list[str], int]:
    """Loops over all axes with more than one entry; the index of every axis, and how many blocks were opened."""
    indices, opened = [], 0
    for axis, size in enumerate(shape):
        if size == 1:
            indices.append("0")
            continue
        indices.append(f"{letter}{axis}")
        scope.count(indices[-1], size)
        opened += 1
    return indices, opened


def each(scope: Scope, expression: str, *, size: int | None = None) -> None:
    """`y[i] = expression`, for every i of the (first) input; v is x[i]."""
    scope.count("i", scope.size if size is None else size)
    scope.line("const float v = x[i];", f"y[i] = {expression};")
    scope.close()


def fill_with(scope: Scope, y: str, constant: str | None, size: int) -> None:
    """`y = constant`, or zeros where there is none."""
    if constant is None:
        scope.line(f"memset({y}, 0, {size} * sizeof *{y});")
    else:
        scope.line(f"memcpy({y}, {constant}, {size} * sizeof *{y});")
