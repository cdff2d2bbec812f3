"""Puts a decision on a knife's edge: a threshold becomes a potential that occurs, so that rounding decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from psu_deploy.errors import PsuDeployError
from psu_deploy.fuzz.draw import Draw
from psu_deploy.machine import StateMachine, ops


def on_an_edge(draw: Draw, machine: StateMachine, x: Any, state: dict[str, Any] | None) -> StateMachine:
    """The network with the threshold of one neuron layer at `V - R` of one neuron in one step, as float64 has it.

    Args:
        draw: chooses layer, step, sample and neuron.
        machine: the network; it comes back as it is where it has no threshold, or no number where one would be.
        x: its input, (T, B, *features), silence at the end included.
        state: where it starts; None = the initial state.
    """
    places = [i for i, n in enumerate(machine.nodes) if isinstance(n.layer, ops.SpikingNeuron | ops.LIFNeuron)]
    if not places:
        return machine
    place = draw.one(places)
    node, neuron = machine.nodes[place], machine.nodes[place].layer
    assert isinstance(neuron, ops.SpikingNeuron | ops.LIFNeuron)
    try:
        trace = machine.trace(np.asarray(x, np.float64), state)
    except PsuDeployError:  # it overflows, and has no potential
        return machine
    seen = np.ravel(trace.potential[node.name] - trace.reset[node.name])
    moved = replace(neuron, threshold=float(draw.one(seen)))
    nodes = (*machine.nodes[:place], replace(node, layer=moved), *machine.nodes[place + 1 :])
    return StateMachine(nodes, machine.input_shape, machine.output)
