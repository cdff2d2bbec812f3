"""The layers that a neuron module becomes: what stands before the neuron, the neuron, and what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from psu_deploy.capture.calls import Record
from psu_deploy.capture.check import like
from psu_deploy.capture.conversion import Chain, FirstStep
from psu_deploy.capture.values import EVERY, Value
from psu_deploy.machine import Node, ops
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.machine.schedule import INPUT


class SpikingRecord(Record, Protocol):
    """What the layers of a neuron see of the recording."""

    def spiking(self, value: Value) -> Value:
        """Spikes at random instead of those of a neuron layer."""


@dataclass(frozen=True)
class Parts:
    """A chain around its neuron.

    Args:
        before: what makes the neuron's current of the input; the last node is what it reads.
        neuron: the neuron layer.
        behind: what is made of its spikes, without a memory.
    """

    before: tuple[Node, ...]
    neuron: ops.Neuron
    behind: tuple[ops.Layer, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All up to the neuron, which is called "neuron"."""
        source = self.before[-1].name if self.before else INPUT
        return (*self.before, Node("neuron", self.neuron, (source,)))


def parted(chain: Chain, features: Shape) -> Parts | None:
    """A chain around its neuron; None if there is none in it."""
    at = next((i for i, one in enumerate(chain) if isinstance(one, ops.Neuron)), None)
    if at is None:
        return None
    nodes: list[Node] = []
    for one in chain[:at]:
        source = nodes[-1].name if nodes else INPUT
        if isinstance(one, FirstStep):
            nodes.extend(_first_step(one.current, source, features))
        else:
            nodes.append(Node(f"before{len(nodes)}", one, (source,)))
    neuron = chain[at]
    assert isinstance(neuron, ops.Neuron)
    return Parts(tuple(nodes), neuron, tuple(one for one in chain[at + 1 :] if isinstance(one, ops.Layer)))


def _first_step(current: float, source: str, features: Shape) -> list[Node]:
    """x[t] + current (1 - d[t]), where d is a 1 that comes one step late."""
    one = np.ones(features[0] if features else 1)
    return [
        Node("one", ops.ChannelAffine(0 * one, one), (source,)),
        Node("late", ops.Delay(1), ("one",)),
        Node("first", ops.ChannelAffine(-current * one, current * one), ("late",)),
        Node("started", ops.Add(), (source, "first")),
    ]


def emit_parts(record: SpikingRecord, name: str, parts: Parts, value: Value, steps: Sequence[Tensor]) -> Value:
    """Write a neuron down under its name, with what stands around it.

    Args:
        record: where the layers go.
        name: of the module.
        parts: its layers.
        value: its input.
        steps: every input it has had, up to this one, or the whole sequence.
    """
    values, sequences = {INPUT: value}, {INPUT: torch.stack(tuple(steps))}
    for node in parts.before:
        sequences[node.name] = run_along_time(node.layer, [sequences[source] for source in node.inputs])
        found = sequences[node.name] if value.when == EVERY else sequences[node.name][-1]
        inputs = [values[source] for source in node.inputs]
        values[node.name] = record.emit(f"{name}.{node.name}", node.layer, inputs, found, value.axes)
    current = values[parts.nodes[-1].inputs[0]]
    spikes = record.spiking(record.emit(name, parts.neuron, (current,), value.tensor, value.axes))
    for layer in parts.behind:
        every = value.when == EVERY
        found = run_along_time(layer, [spikes.tensor if every else spikes.tensor[None]])
        spikes = record.emit(f"{name}.scaled", layer, (spikes,), found if every else found[0], value.axes)
    return spikes


def run_along_time(layer: ops.Layer, inputs: Sequence[Tensor]) -> Tensor:
    """What a layer gives, step by step, of sequences (T, B, *features)."""
    shapes = [tuple(one.shape[2:]) for one in inputs]
    state = {
        name: inputs[0].new_zeros(inputs[0].shape[1], *shape) for name, shape in layer.state_shapes(*shapes).items()
    }
    found = []
    for t in range(len(inputs[0])):
        context = Context(like(inputs[0]), state, t)
        found.append(layer.step([one[t] for one in inputs], context))
        state = {**state, **context.new_state}
    return torch.stack(found)
