"""State machine -> canonical network, layer by layer; everything that stands in the way is collected first."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from psu_deploy.errors import Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.nir import geometry
from psu_deploy.exporters.nir.lower_neurons import (
    ESTIMATORS,
    OPERATORS,
    lower_lif,
    lower_spiking_neuron,
    operator_output,
)
from psu_deploy.exporters.nir.network_builder import NetworkBuilder, rule_for
from psu_deploy.exporters.nir.primitives import (
    INPUT,
    OUTPUT,
    Dense,
    Flatten,
    Network,
    Primitive,
    Step,
    Taps,
    mix,
    scale,
)
from psu_deploy.exporters.nir.without_node import WITHOUT_NODE
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.runtime.readout import READOUTS


def lower(machine: StateMachine) -> Network:
    """The canonical network of a machine.

    Raises:
        UnsupportedModelError: listing every layer that NIR cannot express, or that nobody here knows.
    """
    walk = _Walk(machine)
    for node in machine.nodes:
        walk.visit(node)
    if walk.problems:
        raise UnsupportedModelError(walk.problems, "export the network to NIR")
    return walk.network()


def check(machine: StateMachine) -> None:
    """Refuse a machine that holds a kind nobody here knows, with everything else that stands in the way.

    Raises:
        UnsupportedModelError: as `lower`.
    """
    if any(VOCABULARY.unknown(node) for node in machine.nodes):
        lower(machine)


class _Walk:
    """The network drawn so far.

    Attributes:
        machine: that is lowered.
        builder: takes the vertices.
        problems: what stands in the way.
        spiking: neuron layer -> vertex that emits its spikes.
        readout: what the decoder does.
    """

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.builder = NetworkBuilder()
        self.problems: list[Problem] = []
        self.spiking: dict[str, str] = {}
        self.readout = "last"
        self._names: dict[str, str] = {"x": INPUT}
        self._layers: dict[str, tuple[str, str]] = {}
        read = {name for node in machine.nodes for name in node.inputs} | {machine.output}
        for node in machine.nodes:
            if node.name not in read:
                kind = type(node.layer).__name__
                self.problems.append(Problem(node.name, kind, "nothing reads it", "remove it, or make it the output"))
        if machine.latency:
            reason = f"the network answers {machine.latency} step(s) late: layers start late, and NIR cannot say when"
            self.problems.append(Problem("x", "latency", reason, "remove the look-ahead along time"))

    def visit(self, node: Node) -> None:
        inputs = tuple(self._names[name] for name in node.inputs)
        prefix = _safe(node.name, {INPUT, OUTPUT, *self._layers})
        self._layers[prefix] = node.name, type(node.layer).__name__
        self.builder.begin(prefix)
        self._names[node.name] = inputs[0]  # what layers behind it read where it cannot be expressed
        unknown = VOCABULARY.unknown(node)
        if unknown:
            self.problems += unknown
            return
        try:
            self._names[node.name] = rule_for(_RULES, node.layer)(node.layer, _Place(self, node, inputs))
            if isinstance(node.layer, ops.Neuron):
                self.spiking[node.name] = self._names[node.name]
        except Refusal as error:
            self.problems.append(Problem(node.name, type(node.layer).__name__, error.reason, error.remedy))

    def network(self) -> Network:
        output = self._names[self.machine.output]
        if output == INPUT:
            self.builder.begin("layer")
            output = self.builder.add("", mix([[1.0]]), INPUT)
        vertices = tuple(self.builder.vertices)
        return Network(
            vertices, self.machine.input_shape, output, self.spiking, readout=self.readout, layers=self._layers
        )


@dataclass(frozen=True)
class _Place:
    """Where a layer stands.

    Args:
        walk: that came to it.
        node: the layer's.
        inputs: vertices it reads.
    """

    walk: _Walk
    node: Node
    inputs: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Features of the (first) input."""
        return self.walk.machine.shapes[self.node.inputs[0]]

    def add(self, primitive: Primitive) -> str:
        """The layer as one vertex."""
        return self.walk.builder.add("", primitive, self.inputs[0])


def _spiking_neuron(layer: ops.SpikingNeuron, at: _Place) -> str:
    return lower_spiking_neuron(layer, at.inputs[0], at.walk.builder)


def _lif_neuron(layer: ops.LIFNeuron, at: _Place) -> str:
    return lower_lif(layer, at.inputs[0], at.walk.builder)


def _filter(layer: ops.Filter, at: _Place) -> str:
    return operator_output(layer.operator, at.inputs[0], at.walk.builder)


def _sum(layer: ops.Add, at: _Place) -> str:
    """A graph has one edge from node to node: a term that is there twice is doubled first."""
    shapes = {at.walk.machine.shapes[name] for name in at.node.inputs}
    if len(shapes) > 1:
        raise Refusal(f"adds features of different shapes {sorted(shapes)}", "bring them to one shape before")
    builder, counts = at.walk.builder, Counter(at.inputs)
    terms = [
        name if count == 1 else builder.add(f"times_{index}", scale(float(count)), name)
        for index, (name, count) in enumerate(counts.items())
    ]
    return builder.add("", mix([[1.0]]), *terms)


def _hold(layer: ops.Hold, at: _Place) -> str:
    """What is held of a static input is the same in every step anyway."""
    if not at.walk.machine.static_input:
        raise Refusal("the value of the first step, held while the input goes on", "leave Hold out")
    return at.inputs[0]


def _read_out(layer: ops.Readout, at: _Place) -> str:
    if at.node.name != at.walk.machine.output:
        raise Refusal("a readout inside the network varies with time", "read out at the network's end only")
    if layer.kind not in READOUTS:
        raise Refusal(f"the running {layer.kind} of the output", f"read out one of {', '.join(READOUTS)}")
    at.walk.readout = layer.kind
    return at.inputs[0]


def _max_pool(layer: ops.MaxPool, at: _Place) -> str:
    """The maximum of spikes is whether any of them is there."""
    if at.node.inputs[0] not in at.walk.machine.binary:
        raise Refusal("MaxPool of numbers that are not spikes", "pool spikes, or use AvgPool")
    total = at.walk.builder.add("sum", geometry.pool(layer, at.shape), at.inputs[0])
    return at.walk.builder.add("", Step((0.5,), ">="), total)


def _delay(layer: ops.Delay, at: _Place) -> str:
    taps = at.walk.builder.add("taps", Taps(layer.steps + 1), at.inputs[0])
    return at.walk.builder.add("", mix([[0.0] * layer.steps + [1.0]]), taps)


def _time_conv(layer: ops.TimeConv, at: _Place) -> str:
    """The last k inputs side by side, and one matrix over all of them."""
    weight = geometry.ungrouped(layer.weight, layer.groups)
    newest_first = weight[:, :, ::-1].transpose(0, 2, 1).reshape(len(weight), -1)
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias
    taps = at.walk.builder.add("taps", Taps(layer.order), at.inputs[0])
    return at.walk.builder.add("", Dense(newest_first, bias), taps)


def _linear(layer: ops.Linear, at: _Place) -> str:
    if len(at.shape) != 1:
        reason = f"Linear over the last of {len(at.shape)} axes; NIR's has one"
        raise Refusal(reason, "flatten before it, or use a 1 x 1 convolution")
    bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return at.add(Dense(layer.weight, bias))


def _conv(layer: ops.Conv1d | ops.Conv2d, at: _Place) -> str:
    return at.add(geometry.convolution(layer, at.shape))


def _channel_affine(layer: ops.ChannelAffine, at: _Place) -> str:
    return at.add(geometry.elementwise(np.diag(layer.scale), layer.shift, at.shape))


def _pool(layer: ops.AvgPool | ops.SumPool, at: _Place) -> str:
    return at.add(geometry.pool(layer, at.shape))


def _flatten(layer: ops.Flatten, at: _Place) -> str:
    return at.inputs[0] if len(at.shape) == 1 else at.add(Flatten())


_RULES: dict[type, Callable[[Any, _Place], str] | Refusal] = {
    ops.Linear: _linear,
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.ChannelAffine: _channel_affine,
    ops.AvgPool: _pool,
    ops.SumPool: _pool,
    ops.MaxPool: _max_pool,
    ops.Flatten: _flatten,
    ops.Add: _sum,
    ops.Delay: _delay,
    ops.Wait: _delay,  # the same vertices; that the network is late then is refused once, for all of it
    ops.TimeConv: _time_conv,
    ops.Filter: _filter,
    ops.Hold: _hold,
    ops.Readout: _read_out,
    ops.SpikingNeuron: _spiking_neuron,
    ops.LIFNeuron: _lif_neuron,
    **WITHOUT_NODE,
}
"""Kind -> the vertex that is the layer's output, or why there is none."""

VOCABULARY = Vocabulary("the NIR exporter", _RULES, OPERATORS, ESTIMATORS)
"""Every kind that has a row."""


def _safe(name: str, taken: set[str]) -> str:
    """A name that every reader can use as an attribute of a torch module: letters, digits and single underscores.

    Two underscores come before a vertex's role, so that no layer's name can be that of another's vertex.
    """
    plain = re.sub(r"\W|_+", "_", name, flags=re.ASCII)
    plain = re.sub(r"_+", "_", plain).strip("_")
    base = plain if plain[:1].isalpha() and plain not in _RESERVED else f"layer_{plain}".rstrip("_")
    candidate, count = base, 1
    while candidate in taken:
        count += 1
        candidate = f"{base}_{count}"
    return candidate


_RESERVED = {*dir(torch.nn.Module), *dir(torch.nn.ModuleDict), *dir(torch.fx.GraphModule), *keyword.kwlist, "state"}
