"""Causal operators -> C: what comes before the loop over neurons, what is in it, and what is left to do after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops


@dataclass(frozen=True)
class LoweredOperator:
    """One operator in the place of a role.

    Attributes:
        says: its equation.
        before: declarations.
        inside: (input of neuron i, name of the result) -> statements of a loop over i.
        after: name of the array of inputs -> loops that bring the state up to date; none where `inside` did.
        leaves: whether `after` has anything to do.
    """

    says: str
    before: tuple[str, ...]
    inside: Callable[[str, str], tuple[str, ...]]
    after: Callable[[str], tuple[str, ...]] = lambda _: ()
    leaves: bool = False


def lower_operator(operator: ops.CausalOperator, role: str, x: str, scope: Scope) -> LoweredOperator:
    """An operator of a machine that was checked.

    Args:
        operator: what makes one number of every input.
        role: of its state.
        x: what its input is called in its equation.
        scope: of the layer.
    """
    return OPERATORS[type(operator)](operator, role, x, scope)


def _state(role: str, scope: Scope) -> tuple[str, str]:
    """What the state is called, and its declaration."""
    name = "kept" if role == "y" else role
    return name, f"float *restrict {name} = {scope.state(role)};"


def _identity(operator: ops.Identity, role: str, x: str, scope: Scope) -> LoweredOperator:
    return LoweredOperator(x, (), lambda value, name: (f"const float {name} = {value};",))


def _leak(operator: ops.Leak, role: str, x: str, scope: Scope) -> LoweredOperator:
    state, declared = _state(role, scope)
    decay, gain = literal(operator.decay), literal(operator.gain)
    return LoweredOperator(
        f"{decay} {state}[t-1] + {gain} {x}",
        (declared,),
        lambda value, name: (f"const float {name} = {state}[i] * {decay} + {gain} * {value};", f"{state}[i] = {name};"),
    )


def _strict_leak(operator: ops.StrictLeak, role: str, x: str, scope: Scope) -> LoweredOperator:
    state, declared = _state(role, scope)
    decay, gain = literal(operator.decay), literal(operator.gain)
    return LoweredOperator(
        f"{state}, and for the next step {state} = {decay} ({state} + {gain} {x})",
        (declared,),
        lambda value, name: (
            f"const float {name} = {state}[i];",
            f"{state}[i] = ({name} + {gain} * {value}) * {decay};",
        ),
    )


def _partial_sums(operator: ops.PartialSums, role: str, x: str, scope: Scope) -> LoweredOperator:
    """The matrix lies by columns: what one input adds to the sums of all steps to come is a row of it."""
    steps, n = len(operator.bias), scope.size
    matrix, bias = scope.constant(operator.matrix.T, f"{role}_columns"), scope.constant(operator.bias, f"{role}_bias")
    now = f"(int){scope.step()}"
    column = f"{role}_column"
    before = [f"const float *{column} = {matrix} + {now} * {steps};"]
    before += [f"const float {role}_gain = {column}[{now}], {role}_bias = {bias}[{now}];"]
    says = f"sum over l <= t of A[t, l] {x}[l] + b[t]; the sums of the steps to come are kept."
    if steps == 1:
        return LoweredOperator(
            says, tuple(before), lambda value, name: (f"const float {name} = {role}_gain * {value} + {role}_bias;",)
        )
    state, declared = _state(role, scope)
    due = f"{state}_due"
    before += [declared, f"const float *{due} = {state} + ({now} > 0 ? {now} - 1 : {steps - 2}) * {n};"]
    return LoweredOperator(
        says,
        tuple(before),
        lambda value, name: (f"const float {name} = {role}_gain * {value} + {due}[i] + {role}_bias;",),
        lambda array: (
            f"for (int l = {now} + 1; l < {steps}; l++) {{",
            f"    const float a = {column}[l];",
            f"    for (int i = 0; i < {n}; i++) {{",
            f"        {state}[(l - 1) * {n} + i] += a * {array}[i];",
            "    }",
            "}",
        ),
        leaves=True,
    )


def _window(operator: ops.Window, role: str, x: str, scope: Scope) -> LoweredOperator:
    order, n = operator.order, scope.size
    columns = scope.constant(operator.columns, f"{role}_columns")
    bias = scope.constant(operator.bias, f"{role}_bias")
    row = "0" if operator.time_invariant else f"(int){scope.step()}"
    column = f"{role}_column"
    before = (f"const float *{column} = {columns} + {row} * {order};", f"const float {role}_bias = {bias}[{row}];")
    says = f"sum over l < {order} of A[t, t-l] {x}[t-l] + b[t]; the sums of the next {order - 1} steps are kept."
    if order == 1:
        return LoweredOperator(
            says, before, lambda value, name: (f"const float {name} = {column}[0] * {value} + {role}_bias;",)
        )
    state, declared = _state(role, scope)
    return LoweredOperator(
        says,
        (*before, declared),
        lambda value, name: (f"const float {name} = {column}[0] * {value} + {state}[i] + {role}_bias;",),
        lambda array: (
            f"for (int l = 1; l < {order - 1}; l++) {{",
            f"    for (int i = 0; i < {n}; i++) {{",
            f"        {state}[(l - 1) * {n} + i] = {state}[l * {n} + i] + {column}[l] * {array}[i];",
            "    }",
            "}",
            f"for (int i = 0; i < {n}; i++) {{",
            f"    {state}[{(order - 2) * n} + i] = {column}[{order - 1}] * {array}[i];",
            "}",
        ),
        leaves=True,
    )


def _exponentials(operator: ops.Exponentials, role: str, x: str, scope: Scope) -> LoweredOperator:
    terms, n = len(operator.gains), scope.size
    gains, decays = scope.constant(operator.gains, f"{role}_gains"), scope.constant(operator.decays, f"{role}_decays")
    state, declared = _state(role, scope)
    return LoweredOperator(
        f"sum over m of {state}[m] + b, {state}[m] = decays[m] {state}[m] + gains[m] {x}",
        (declared,),
        lambda value, name: (
            f"float {name} = {literal(operator.bias)};",
            f"for (int m = 0; m < {terms}; m++) {{",
            f"    {state}[m * {n} + i] = {decays}[m] * {state}[m * {n} + i] + {gains}[m] * {value};",
            f"    {name} += {state}[m * {n} + i];",
            "}",
        ),
    )


OPERATORS: dict[type, Callable[[Any, str, str, Scope], LoweredOperator]] = {
    ops.Identity: _identity,
    ops.Leak: _leak,
    ops.StrictLeak: _strict_leak,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind -> rule."""
