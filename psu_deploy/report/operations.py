"""Synaptic operations per step, as estimates: how many products the weights take, and how many meet a spike."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.fields import Array
from psu_deploy.machine.reference import Interpreter

_SAMPLES, _STEPS = 2, 64
"""Of the input that is looked at."""

_BY_OUTPUT = (ops.Linear, ops.Conv1d, ops.Conv2d, ops.Conv3d, ops.TimeConv)
_BY_INPUT = (ops.ConvTranspose1d, ops.ConvTranspose2d)
"""Layers with weights: every number out is a sum over the weights of its channel, or every number in is spread."""


class Operations(NamedTuple):
    """Of one layer with weights, per step and sample.

    Attributes:
        layer: its name.
        dense: products where every input counts.
        events: products with an input that is not zero: what a layer takes that reads the weights of events only.
    """

    layer: str
    dense: float
    events: float


def operations(machine: StateMachine, x: Any) -> list[Operations]:
    """Every layer with weights, on the first samples and steps of an input (T, B, *features)."""
    dense = {node.name: _dense(machine, node) for node in machine.nodes}
    weighted = [node for node in machine.nodes if dense[node.name]]
    if not weighted:
        return []
    x = torch.as_tensor(x[:_STEPS, :_SAMPLES], dtype=torch.float32)
    active = _active(machine, x)
    once = {name: 1 / len(x) for name in machine.once}
    found = []
    for node in weighted:
        products = dense[node.name] * once.get(node.name, 1.0)
        found.append(Operations(node.name, products, products * active[node.inputs[0]]))
    return found


def _dense(machine: StateMachine, node: Node) -> int:
    layer: Any = node.layer
    if not isinstance(layer, (*_BY_OUTPUT, *_BY_INPUT)):
        return 0
    weight: Array = layer.weight
    numbers = machine.shapes[node.name if isinstance(layer, _BY_OUTPUT) else node.inputs[0]]
    return prod(numbers) * (int(weight.size) // int(weight.shape[0]))


def _active(machine: StateMachine, x: torch.Tensor) -> dict[str, float]:
    """Name of every layer -> share of its numbers that are not zero."""
    interpreter = Interpreter(machine, torch.float32, torch.device("cpu"))
    state = {name: torch.as_tensor(value) for name, value in machine.initial_state(x.shape[1]).items()}
    total: dict[str, float] = {}
    with torch.no_grad():
        for x_t in x:
            done = interpreter.walk(x_t, state)
            state = done.state
            for name, value in done.values.items():
                total[name] = total.get(name, 0.0) + float(value.count_nonzero()) / value.numel() / len(x)
    return total
