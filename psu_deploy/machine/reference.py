"""The serial interpreter: runs what the ops of a machine say that they mean, one step at a time, in torch.

Every other form of the same network (ONNX, NIR, Lava) is judged against this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from psu_deploy.machine.graph import Graph
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.context import Context, NeuronStep
from psu_deploy.machine.ops.fields import Array
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.schedule import Walked, walk
from psu_deploy.numerics.subnormal import flushed

State = Mapping[str, Tensor]

Visit = Callable[[Layer, list[Tensor], Context], Tensor]


@dataclass(frozen=True)
class Step:
    """One step of the whole network: output, the next state, every neuron layer's doing, the value of every layer."""

    output: Tensor
    state: dict[str, Tensor]
    neurons: dict[str, NeuronStep]
    values: dict[str, Tensor]


class Interpreter:
    """Runs a graph in one dtype on one device.

    Args:
        graph: what to run.
        dtype: torch.float32 or torch.float64; parameters are rounded to it once, subnormal ones to zero.
        device: any torch device.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator that is not registered.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype, device: torch.device) -> None:
        Vocabulary.registered("the reference interpreter").check(graph.nodes, "run the machine")
        # Not the graph itself: a machine keeps its interpreters, and would not go before the collector comes by.
        self._schedule, self._spiking, self._output = graph.schedule, graph.spiking, graph.output
        self._dtype = dtype
        self._device = device
        self._constants: dict[int, tuple[Array, Tensor]] = {}

    def step(self, x: Tensor, state: State, spikes: State | None = None) -> Step:
        """Advance by one step; neither x nor state is changed.

        Args:
            x: input, (B, *features).
            state: name -> tensor, as in `Graph.state_spec`.
            spikes: neuron layer -> spikes (B, *features) it shall emit instead of its own decision; what it would
                have decided is still in the margin.
        """
        done = self.walk(x, state, spikes)
        neurons = {}
        for name in self._spiking:
            own = done.contexts.get(name)
            found = None if own is None else own.neuron
            neurons[name] = NeuronStep(*[done.values[name]] * 5) if found is None else found
        return Step(done.values[self._output], done.state, neurons, done.values)

    def walk(self, x: Tensor, state: State, spikes: State | None = None, visit: Visit | None = None) -> Walked:
        """The same step, with the value of every layer in it; `visit` runs a layer in another way."""
        forced = {} if spikes is None else spikes
        return walk(self._schedule, x, state, visit or _step, lambda name: {"forced": forced.get(name)}, self._constant)

    def _constant(self, array: Array) -> Tensor:
        """A constant of the graph as a tensor, made once. Kept with the array: an id is only unique while it lives."""
        key = id(array)
        if key not in self._constants:
            self._constants[key] = (array, flushed(torch.tensor(array, dtype=self._dtype, device=self._device)))
        return self._constants[key][1]


def _step(layer: Layer, inputs: list[Tensor], context: Context) -> Tensor:
    return layer.step(inputs, context)
