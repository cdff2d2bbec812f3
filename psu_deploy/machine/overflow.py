"""What a state may not become: infinite, or no number. Finite input can do that, and every answer after it is void.

A sum, or a sum of squares, finds out at a fraction of the price of looking at every number: what is not finite makes a
sum that is not. Sums of huge numbers overflow too, so a bad sum is a suspicion, and then every number is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import StateError
from psu_deploy.machine.graph import Graph
from psu_deploy.machine.reference import Step
from psu_deploy.machine.schedule import STEP, layer_and_role, state_name
from psu_deploy.machine.trace import Trace

THE_OUTPUT = "the output"


def check_done(graph: Graph, done: Step, step: int | None) -> None:
    """Raise `StateError` naming the layer if a step made a V, an R, a state or the output overflow.

    Args:
        graph: says which layer comes first.
        done: what the step left behind.
        step: its number, from 1; None = nobody counts.
    """
    neurons = done.neurons.values()
    state = (value for name, value in done.state.items() if name != STEP)
    if all_finite([done.output, *state, *(n.potential for n in neurons), *(n.reset for n in neurons)]):
        return
    name = next(name for name, value in _in_network_order(graph, done) if not bool(value.isfinite().all()))
    when = "in this step" if step is None else f"in step {step}"
    raise StateError(f"{spell(name)} overflowed {when}, from finite input; scale the input down and start anew")


def check_trace(trace: Trace) -> None:
    """Raise `StateError` naming the layer and the step if anything in a trace of numpy arrays overflowed."""
    bad = []
    for name, values in _rows(trace):
        finite = np.isfinite(values).reshape(len(values), -1).all(1)
        bad += [] if finite.all() else [(int(finite.argmin()), name)]
    if bad:
        step, name = min(bad, key=lambda found: found[0])  # in network order, so of one step the first layer
        raise StateError(f"{spell(name)} overflowed in step {step + 1}, from finite input; scale the input down")
    left = first_overflow(trace.state.items())
    if left is not None:
        raise StateError(f"{spell(left)} overflowed in the last step, from finite input; scale the input down")


def all_finite(values: Sequence[Tensor]) -> bool:
    """Whether all numbers in all tensors are finite."""
    unique = list({id(value): value for value in values}.values())
    if unique[0].is_cpu:
        arrays = [(value.detach() if value.requires_grad else value).numpy() for value in unique]
        suspicious = not all(math.isfinite(np.vdot(array, array)) for array in arrays)
    else:  # one answer to wait for
        suspicious = not bool(torch.stack([value.sum() for value in unique]).isfinite().all())
    return not suspicious or all(bool(value.isfinite().all()) for value in unique)


def first_overflow(state: Iterable[tuple[str, Any]]) -> str | None:
    """Name of the first numpy array that holds NaN or infinity; None = all are finite."""
    return next((name for name, value in state if not np.isfinite(value).all()), None)


def spell(name: str) -> str:
    """The name of a state tensor, for people: `1.V` is the V of layer '1'."""
    layer, role = layer_and_role(name)
    return f"layer {layer!r}: {role}" if layer else name


def _in_network_order(graph: Graph, done: Step) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor: V and R of every neuron, and all state but the counter, layer by layer; the output last."""
    for node in graph.nodes:
        if node.name in done.neurons:
            yield state_name(node.name, "V"), done.neurons[node.name].potential
            yield state_name(node.name, "R"), done.neurons[node.name].reset
        for role in graph.roles(node.name):
            yield state_name(node.name, role), done.state[state_name(node.name, role)]
    yield THE_OUTPUT, done.output


def _rows(trace: Trace) -> Iterator[tuple[str, Any]]:
    """Name and array (T, B, ...): V and R of every neuron that tells them, in network order; the output last."""
    for layer in trace.spikes:
        for role, values in (("V", trace.potential), ("R", trace.reset)):
            if layer in values:
                yield state_name(layer, role), values[layer]
    for values in trace.outputs.values():
        yield THE_OUTPUT, values
