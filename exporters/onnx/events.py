"""Linear layers that add up the rows of what fired, and leave all other weights unread.

`y = W x + b = sum of x[j] W[:, j] over all j with x[j] != 0, + b`: at batch 1 a step waits for weights to be read, and
those of what is silent need not be. A layer gathers the rows that any sample of the batch needs; where spikes are many
it multiplies with all of them. Both ways are right for every input and every batch, only their speed differs.

The weights are stored once, as (in, out), and both ways read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import onnx_ir as ir

from psu_deploy.errors import InputError
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.schedule import INPUT

Events = bool | Literal["auto", "on", "off"]
"""Which layers are driven by events: all that can be; none; "auto" = those that are large enough to gain by it."""

RATE = 1 / 8
"""Spikes per input up to which rows are gathered. At a fifth the whole product costs as much where weights are read at
70 GB/s; where they are read more slowly, later. From `benchmarks/choose_events.py`, as are the other two."""

MOST = 2**24
"""Spikes that float32 can count one by one."""

SHORTEST_ROW = 512
"""Outputs from which a layer gains by it: reading shorter rows one by one costs more per number."""

FEWEST_WEIGHTS = 5 * 2**17
"""From which a layer gains by it: the question, how many spikes there are, costs as much as reading 50 000 weights."""


def event_layers(machine: StateMachine, events: Events) -> dict[str, int]:
    """Layer -> the largest number of spikes for which it gathers rows; layers that never do are not in it.

    Args:
        machine: the network.
        events: "auto", True or "on", False or "off".

    Raises:
        InputError: if it is none of those.
    """
    if not isinstance(events, bool | str) or events not in (True, False, "auto", "on", "off"):
        raise InputError(f'events must be "auto", True ("on") or False ("off"), got {events!r}')
    if events in (False, "off"):
        return {}
    sparse = _sparse(machine)
    able = {node.name: node.layer for node in machine.nodes if _able(machine, node, sparse)}
    shapes = {name: layer.weight.shape for name, layer in able.items() if isinstance(layer, ops.Linear)}
    chosen = {name: shape[1] for name, shape in shapes.items() if events != "auto" or _worth(*shape)}
    return {name: min(int(RATE * inputs), MOST) for name, inputs in chosen.items()}


def _sparse(machine: StateMachine) -> set[str]:
    """The input, spikes, and what hands either on: what may be silent in most places."""
    names = {INPUT}
    for node in machine.nodes:
        if isinstance(node.layer, ops.Neuron) or (node.layer.keeps_spikes and names.issuperset(node.inputs)):
            names.add(node.name)
    return names


def _able(machine: StateMachine, node: Node, sparse: Iterable[str]) -> bool:
    """Linear layers along their only axis; one that is computed once need not be fast."""
    plain = type(node.layer) is ops.Linear and len(machine.shapes[node.inputs[0]]) == 1
    return plain and node.inputs[0] in sparse and node.name not in machine.once


def _worth(outputs: int, inputs: int) -> bool:
    return outputs >= SHORTEST_ROW and outputs * inputs >= FEWEST_WEIGHTS


def event_linear(layer: ops.Linear, x: ir.Value, most: int, scope: Scope) -> ir.Value:
    """`If` there are at most so many spikes, the sum of the rows that they need; else the whole product.

    Args:
        layer: on one axis.
        x: (B, in).
        most: spikes, in all samples together.
        scope: of the layer.
    """
    b, name = scope.builder, scope.name
    weight, scale = b.narrow(layer.weight, name, channels=1)
    bias = () if layer.bias is None else (b.floats(layer.bias, f"{name}.bias"),)
    fired = x if scope.binary else b.op("Sign", x, name=f"{name}.fired")
    count = b.op("ReduceL1", fired, name=f"{name}.spikes", keepdims=0)
    few = b.op("LessOrEqual", count, b.floats(float(most), f"{name}.most"), name=f"{name}.are_few")
    sparse, dense = b.branch(), b.branch()
    first = b.integers([0], "axis_0")
    reach = sparse.op("ReduceL1", x, first, name=f"{name}.reach", keepdims=0)
    place = sparse.op("Squeeze", sparse.op("NonZero", reach, name=f"{name}.places"), first, name=f"{name}.place")
    rows = sparse.widened(sparse.op("Gather", weight, place, name=f"{name}.rows", axis=0), scale, name)
    values = sparse.op("Gather", x, place, name=f"{name}.values", axis=1)
    total = sparse.op("Gemm", values, rows, *bias, name=f"{name}.sum")
    product = dense.op("Gemm", x, dense.widened(weight, scale, name), *bias, name=f"{name}.product")
    for value in (total, product):  # inference does not see from a branch which axis was added up
        value.shape, value.type = ir.Shape([TARGET.batch, len(layer.weight)]), ir.TensorType(ir.DataType.FLOAT)
    branches = {
        "then_branch": ir.Graph([], [total], nodes=sparse.nodes, name=f"{name}.few"),
        "else_branch": ir.Graph([], [product], nodes=dense.nodes, name=f"{name}.many"),
    }
    return b.op("If", few, name=name, **branches)


WRITTEN = ("LessOrEqual", "NonZero", "ReduceL1", "Sign")
"""The operators that only this writes."""
