"""Causal operators: one step of them for one neuron."""

from __future__ import annotations

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.c.integers.layer import Layer, literal, plus, share
from psu_deploy.exporters.integers.network import Operator, Sums, Traces

_MOST_TRACES = 254
"""As many 24-bit numbers, and a bias, add up in 32 bits."""


_LOCAL = {"V": "v", "E": "e", "R": "r", "Y": "filtered"}
"""Role -> what its result is called."""


def write_operator(scope: Layer, operator: Operator, role: str, given: str) -> str:
    """Lines that move an operator on by a number of a neuron; returns the name of its result.

    Args:
        scope: of the layer.
        operator: what to advance.
        role: "V", "E", "R" or "Y".
        given: name of the number.
    """
    if isinstance(operator, Traces):
        return _traces(scope, operator, role, given)
    return _sums(scope, operator, role, given)


def _traces(scope: Layer, traces: Traces, role: str, given: str) -> str:
    count, name = len(traces.decays), _LOCAL[role]
    if count > _MOST_TRACES:
        raise Refusal(f"{count} traces, which do not add up in 32 bits", f"use at most {_MOST_TRACES}")
    state = scope.state(role, count)
    parts = []
    for m, (decay, gain) in enumerate(zip(traces.decays.tolist(), traces.gains.tolist(), strict=True)):
        place = f"{state}[i]" if count == 1 else f"{state}[{m * scope.size} + i]"
        mark = f"{role}" if count == 1 else f"{role}{m}"
        scope.equations.append(f"{mark} = saturate({share(decay)}{mark} + {share(gain)}{given})")
        scope.lines.append(f"{place} = {scope.decayed(place, decay, scope.multiply(given, gain))};")
        parts.append(place)
    bias = scope.of_channel(traces.bias, f"{role}_bias")
    if count > 1 or bias != "0":
        scope.equations.append(f"{name} = saturate({'sum of them' if count > 1 else role} + bias)")
        scope.lines.append(f"const int32_t {name} = {scope.saturate(plus(' + '.join(parts), bias))};")
    else:
        scope.lines.append(f"const int32_t {name} = {parts[0]};")
    return name


def _sums(scope: Layer, sums: Sums, role: str, given: str) -> str:
    """What is due lies in a ring of k - 1 numbers; `head` is the step that is due now."""
    rows, order = sums.columns.shape
    name, kept = _LOCAL[role], order - 1
    columns = scope.constant(sums.columns, f"{role}_columns")
    row = columns if rows == 1 else f"{columns} + {scope.step()} * {order}"
    scope.equations += [
        f"due[l] = saturate(due[l] + columns[{'t, ' if rows > 1 else ''}l]/4096 {given}), l = 0 .. {_last(sums)}",
        f"{name} = saturate(due[0] + bias{'[t]' if rows > 1 else ''}), and due moves on by one",
    ]
    scope.before.append(f"const {_kind(scope, columns)} *const {name}_column = {row};")
    if kept:
        _ring(scope, sums, role, given)
    else:
        scope.lines.append(f"int32_t {name} = {scope.saturate(scope.multiply(given, f'{name}_column[0]'))};")
    bias = _bias(scope, sums, role)
    if bias != "0":
        scope.lines.append(f"{name} = {scope.saturate(f'{name} + {bias}')};")
    return name


def _ring(scope: Layer, sums: Sums, role: str, given: str) -> None:
    name, kept = _LOCAL[role], sums.columns.shape[1] - 1
    state, head = scope.state(role, kept), f"{scope.ident}_{role}_head"
    scope.members[head] = 1
    scope.before.append(f"const int32_t {name}_head = s->{head}[0];")
    scope.after.append(f"s->{head}[0] = {name}_head + 1 < {kept} ? {name}_head + 1 : 0;")
    due = f"{name}_due[{name}_head]"
    scope.lines += [
        f"int32_t *const {name}_due = {state} + i * {kept};",
        f"int32_t {name} = {due};",
        f"{due} = 0;",
        f"if ({given} != 0) {{",
        f"    int32_t slot = {name}_head;",
        f"    {name} = {scope.saturate(f'{name} + ' + scope.multiply(given, f'{name}_column[0]'))};",
        f"    for (int32_t l = 1; l < {_reach(sums)}; l++) {{",
        f"        slot = slot + 1 < {kept} ? slot + 1 : 0;",
        f"        {name}_due[slot] = "
        + scope.saturate(f"{name}_due[slot] + {scope.multiply(given, f'{name}_column[l]')}")
        + ";",
        "    }",
        "}",
    ]


def _reach(sums: Sums) -> str:
    """How many numbers of a column can be anything but zero."""
    rows, order = sums.columns.shape
    if rows == 1:
        return literal(int(np.flatnonzero(sums.columns[0]).max(initial=0)) + 1)
    beyond = np.arange(order) >= order - np.arange(rows)[:, None]
    return f"{order} - t" if rows <= order and not sums.columns[beyond].any() else literal(order)


def _last(sums: Sums) -> int:
    return int(sums.columns.shape[1]) - 1


def _bias(scope: Layer, sums: Sums, role: str) -> str:
    """Of the step and of the channel."""
    if len(sums.bias) == 1 or (sums.bias == sums.bias[0]).all():
        return scope.of_channel(sums.bias[0], f"{role}_bias")
    same = (sums.bias == sums.bias[:, :1]).all()
    values = sums.bias[:, :1] if same else sums.bias
    name = scope.constant(values, f"{role}_bias")
    if same:
        return f"{name}[{scope.step()}]"
    return f"{name}[{scope.step()} * {scope.channels} + {'i' if scope.size == scope.channels else 'c'}]"


def _kind(scope: Layer, name: str) -> str:
    return f"{scope.constants[name].dtype}_t"
