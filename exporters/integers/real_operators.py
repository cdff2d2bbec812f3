"""Causal operators in real numbers, as Lava has them: one row per kind, so that whoever rounds or writes one agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from psu_deploy.errors import InternalError, Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.kinds import parts_of
from psu_deploy.machine.ops.fields import Array

Form = TypeVar("Form")


@dataclass(frozen=True, eq=False)
class RealTraces:
    """A sum of leaks and a constant: gains (r,), decays (r,)."""

    gains: Array
    decays: Array
    bias: float

    @property
    def largest(self) -> float:
        """Factor of an input, which becomes part of the unit."""
        return float(np.abs(self.gains).max()) or 1.0


@dataclass(frozen=True, eq=False)
class RealSums:
    """Sums of steps to come: columns (rows, k), bias (rows,); one row for all steps, or row t for step t."""

    columns: Array
    bias: Array
    decays: tuple[float, ...] = ()

    @property
    def largest(self) -> float:
        """Factor of an input, which becomes part of the unit."""
        return float(np.abs(self.columns).max()) or 1.0


@dataclass(frozen=True)
class RealDecay:
    """A reset that leaks: read R, then `R = decay*(R + gain*S')`."""

    gain: float
    decay: float

    @property
    def decays(self) -> tuple[float, ...]:
        """The one there is."""
        return (self.decay,)

    @property
    def largest(self) -> float:
        """Factor of an estimated spike."""
        return abs(self.gain) or 1.0


RealOperator = RealTraces | RealSums


def row_of(table: Mapping[type, Form | Refusal], part: object) -> Form:
    """The row of a part of a machine that was checked.

    Raises:
        InternalError: if it was not.
    """
    row = table.get(type(part))
    if row is None or isinstance(row, Refusal):
        raise InternalError(f"{type(part).__name__} came past the checks of the Lava exporter; please report it")
    return row


def form_of(operator: ops.CausalOperator) -> RealOperator:
    """An operator that makes V, E or a filter's output."""
    return row_of(OPERATORS, operator)(operator)


def reset_of(operator: ops.CausalOperator) -> RealDecay | RealSums:
    """An operator that makes R."""
    return row_of(RESETS, operator)(operator)


def _identity(operator: ops.Identity) -> RealTraces:
    """A trace that forgets at once."""
    return RealTraces(np.ones(1), np.zeros(1), 0.0)


def _leak(operator: ops.Leak) -> RealTraces:
    return RealTraces(np.array([operator.gain]), np.array([operator.decay]), 0.0)


def _exponentials(operator: ops.Exponentials) -> RealTraces:
    return RealTraces(operator.gains, operator.decays, operator.bias)


def _partial_sums(operator: ops.PartialSums) -> RealSums:
    """`columns[t, l] = A[t + l, t]`, zero beyond the last step."""
    steps = len(operator.matrix)
    columns = np.zeros((steps, steps))
    for t in range(steps):
        columns[t, : steps - t] = operator.matrix[t:, t]
    return RealSums(columns, operator.bias)


def _window(operator: ops.Window) -> RealSums:
    return RealSums(operator.columns, operator.bias)


def _strict_leak(operator: ops.StrictLeak) -> RealDecay:
    return RealDecay(operator.gain, operator.decay)


OPERATORS: dict[type, Callable[[Any], RealOperator] | Refusal] = {
    ops.Identity: _identity,
    ops.Leak: _leak,
    ops.StrictLeak: Refusal(
        "a strict leak outside a reset; Lava's neurons read a leak behind its input, not before it",
        "use a leak, or export to ONNX or NIR",
    ),
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind -> what makes V, E or a filter's output along it."""

_NOT_STRICT = Refusal("a reset that sees its own step", "use the strict leak of the PSU family")

RESETS: dict[type, Callable[[Any], RealDecay | RealSums] | Refusal] = {
    ops.Identity: _NOT_STRICT,
    ops.Leak: _NOT_STRICT,
    ops.StrictLeak: _strict_leak,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _NOT_STRICT,
}
"""Kind -> what makes R along it."""


def rows_of(layer: ops.Layer) -> Iterator[tuple[Any, Callable[[Any], RealOperator | RealDecay] | Refusal]]:
    """Every operator of a layer with its row, where it has one."""
    for role, part in parts_of(layer).items():
        row = (RESETS if role == "reset" else OPERATORS).get(type(part))
        if row is not None:
            yield part, row
