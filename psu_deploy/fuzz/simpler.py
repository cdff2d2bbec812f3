"""Simpler numbers: weights, factors and inputs that are 0, 1 or a short decimal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from psu_deploy.errors import PsuDeployError
from psu_deploy.fuzz.case import Case
from psu_deploy.machine import StateMachine, ops

_ARRAYS: tuple[Callable[[Any], Any], ...] = (
    np.zeros_like,
    np.ones_like,
    lambda a: np.where(a == 0, 0.0, np.sign(a)),
    np.round,
    lambda a: np.round(a * 4) / 4,
    lambda a: np.round(a, 1),
    lambda a: np.round(a, 2),
)
"""What may become of an array, the simplest first."""

_SCALARS = (0.0, 1.0, 0.5, 2.0, 0.25)


def simpler_numbers(case: Case) -> Iterator[Case]:
    """One array or factor of one layer at a time, then the input."""
    for index, node in enumerate(case.machine.nodes):
        for layer in _simpler(node.layer):
            try:
                machine = _changed(case.machine, index, layer)
            except (PsuDeployError, ValueError):
                continue
            yield replace(case, machine=machine)
    for x in _other(case.x):
        yield replace(case, x=np.asarray(x, np.float32))


def simpler_entries(case: Case) -> Iterator[Case]:
    """One number of the input at a time, where there are few."""
    if case.x.size <= 24:
        for place in np.ndindex(case.x.shape):
            for value in (0.0, 1.0):
                if case.x[place] not in (0.0, value):
                    x = case.x.copy()
                    x[place] = value
                    yield replace(case, x=x)


def _simpler(part: Any) -> Iterator[Any]:
    """A layer, operator or estimator with one of its numbers made simple."""
    for field in fields(part):
        value = getattr(part, field.name)
        for other in _other_values(value):
            try:
                yield replace(part, **{field.name: other})
            except (PsuDeployError, ValueError, TypeError):
                continue


def _other_values(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield from _other(value)
        return
    if isinstance(value, float):
        simple = [*_SCALARS, round(value), round(value, 1), round(value, 2)]
        yield from (float(one) for one in simple[: _rank(value)])
    elif isinstance(value, ops.CausalOperator | ops.Estimator):
        if not isinstance(value, ops.Identity) and isinstance(value, ops.CausalOperator):
            yield ops.Identity()
        yield from _simpler(value)
    if value is not None and isinstance(value, np.ndarray | ops.CausalOperator):
        yield None


def _rank(value: float) -> int:
    """How many of the simple values are simpler than this one."""
    if value in _SCALARS:
        return _SCALARS.index(value)
    for digits in (0, 1, 2):
        if round(value, digits) == value:
            return len(_SCALARS) + digits
    return len(_SCALARS) + 3


def _other(array: Any) -> Iterator[Any]:
    """Simpler ones, until one of them is the array itself."""
    for change in _ARRAYS:
        other = change(array)
        if np.array_equal(other, array):
            return
        yield other


def _changed(machine: StateMachine, index: int, layer: ops.Layer) -> StateMachine:
    node = replace(machine.nodes[index], layer=layer)
    nodes = (*machine.nodes[:index], node, *machine.nodes[index + 1 :])
    return StateMachine(nodes, machine.input_shape, machine.output)
