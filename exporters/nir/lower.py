"""State machine -> canonical network, layer by layer; everything that stands in the way is collected first."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.exporters.nir import geometry
from psu_deploy.exporters.nir.network import INPUT, OUTPUT, Dense, Flatten, Network, Primitive, Step, Taps, mix, scale
from psu_deploy.exporters.nir.neurons import lower_lif, lower_spiking_neuron, operator_output
from psu_deploy.exporters.nir.sketch import NotInNirError, Sketch
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.fields import Shape


def lower(machine: StateMachine) -> Network:
    """The canonical network of a machine.

    Raises:
        UnsupportedModelError: listing every layer that NIR cannot express.
    """
    walk = _Walk(machine)
    for node in machine.nodes:
        walk.visit(node)
    if walk.problems:
        raise UnsupportedModelError(walk.problems, "export the network to NIR")
    return walk.network()


class _Walk:
    def __init__(self, machine: StateMachine) -> None:
        self.problems: list[Problem] = []
        self._machine = machine
        self._sketch = Sketch()
        self._names: dict[str, str] = {"x": INPUT}
        self._spiking: dict[str, str] = {}
        self._layers: dict[str, tuple[str, str]] = {}
        self._readout = "last"
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
        self._sketch.begin(prefix)
        try:
            self._names[node.name] = self._lower(node, inputs)
        except NotInNirError as error:
            self.problems.append(Problem(node.name, type(node.layer).__name__, error.reason, error.remedy))
            self._names[node.name] = inputs[0]

    def network(self) -> Network:
        output = self._names[self._machine.output]
        if output == INPUT:
            self._sketch.begin("layer")
            output = self._sketch.add("", mix([[1.0]]), INPUT)
        vertices = tuple(self._sketch.vertices)
        return Network(
            vertices, self._machine.input_shape, output, self._spiking, readout=self._readout, layers=self._layers
        )

    def _lower(self, node: Node, inputs: tuple[str, ...]) -> str:
        shape = self._machine.shapes[node.inputs[0]]
        match node.layer:
            case ops.Readout():
                return self._read_out(node, inputs)
            case ops.SpikingNeuron() as neuron:
                self._spiking[node.name] = lower_spiking_neuron(neuron, inputs[0], self._sketch)
                return self._spiking[node.name]
            case ops.LIFNeuron() as neuron:
                self._spiking[node.name] = lower_lif(neuron, inputs[0], self._sketch)
                return self._spiking[node.name]
            case ops.Filter(operator):
                return operator_output(operator, inputs[0], "", self._sketch)
            case ops.Add():
                return self._sum(inputs)
            case ops.MaxPool() as pool:
                return self._max_pool(pool, node, inputs[0], shape)
            case ops.Hold():
                return self._hold(inputs[0])
            case ops.Flatten() if len(shape) == 1:
                return inputs[0]
            case ops.Delay(steps):
                taps = self._sketch.add("taps", Taps(steps + 1), inputs[0])
                return self._sketch.add("", mix([[0.0] * steps + [1.0]]), taps)
            case ops.TimeConv() as conv:
                return _time_conv(conv, inputs[0], self._sketch)
        rule = _RULES.get(type(node.layer))
        if rule is None:
            raise NotInNirError(*_REASONS.get(type(node.layer), ("NIR has no primitive for it", "leave it out")))
        return self._sketch.add("", rule(node.layer, shape), inputs[0])

    def _sum(self, inputs: tuple[str, ...]) -> str:
        """A graph has one edge from node to node: a term that is there twice is doubled first."""
        counts = Counter(inputs)
        terms = [
            name if count == 1 else self._sketch.add(f"times_{index}", scale(float(count)), name)
            for index, (name, count) in enumerate(counts.items())
        ]
        return self._sketch.add("", mix([[1.0]]), *terms)

    def _hold(self, source: str) -> str:
        """What is held of a static input is the same in every step anyway."""
        if not self._machine.static_input:
            raise NotInNirError("the value of the first step, held while the input goes on", "leave Hold out")
        return source

    def _read_out(self, node: Node, inputs: tuple[str, ...]) -> str:
        if node.name != self._machine.output:
            raise NotInNirError("a readout inside the network varies with time", "read out at the network's end only")
        assert isinstance(node.layer, ops.Readout)
        self._readout = node.layer.kind
        return inputs[0]

    def _max_pool(self, pool: ops.MaxPool, node: Node, source: str, shape: Shape) -> str:
        """The maximum of spikes is whether any of them is there."""
        if not self._carries_spikes(node.inputs[0]):
            raise NotInNirError("MaxPool of numbers that are not spikes", "pool spikes, or use AvgPool")
        total = self._sketch.add("sum", geometry.sum_pool(pool, shape), source)
        return self._sketch.add("", Step((0.5,), ">="), total)

    def _carries_spikes(self, name: str) -> bool:
        node = next((node for node in self._machine.nodes if node.name == name), None)
        if node is None:
            return False
        keeps = isinstance(node.layer, ops.MaxPool | ops.Flatten | ops.Delay | ops.Hold)
        return isinstance(node.layer, ops.Neuron) or (keeps and self._carries_spikes(node.inputs[0]))


def _time_conv(conv: ops.TimeConv, source: str, sketch: Sketch) -> str:
    """The last k inputs side by side, and one matrix over all of them."""
    weight = geometry.ungrouped(conv.weight, conv.groups)
    newest_first = weight[:, :, ::-1].transpose(0, 2, 1).reshape(len(weight), -1)
    bias = np.zeros(len(weight)) if conv.bias is None else conv.bias
    return sketch.add("", Dense(newest_first, bias), sketch.add("taps", Taps(conv.order), source))


def _linear(layer: ops.Linear, shape: Shape) -> Primitive:
    if len(shape) != 1:
        raise NotInNirError(
            f"Linear over the last of {len(shape)} axes; NIR's has one", "flatten before it, or use a 1 x 1 convolution"
        )
    bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return Dense(layer.weight, bias)


def _flatten(layer: ops.Flatten, shape: Shape) -> Primitive:
    return Flatten()


def _channel_affine(layer: ops.ChannelAffine, shape: Shape) -> Primitive:
    return geometry.elementwise(np.diag(layer.scale), layer.shift, shape)


_RULES: dict[type, Callable[[Any, Shape], Primitive]] = {
    ops.Linear: _linear,
    ops.Conv1d: geometry.convolution,
    ops.Conv2d: geometry.convolution,
    ops.ChannelAffine: _channel_affine,
    ops.AvgPool: geometry.avg_pool,
    ops.SumPool: geometry.sum_pool,
    ops.Flatten: _flatten,
}

_REASONS = {
    ops.BernoulliNeuron: ("it fires at random, and NIR has no random primitive", "train with PSU, IPSU or RPSU"),
    ops.Activation: ("NIR has no pointwise nonlinearity but the threshold", "use a neuron layer in its place"),
    ops.Multiply: ("NIR has no product of two signals", "leave the gate or the attention out"),
    ops.Wait: ("a branch that waits for a slower one means latency", "remove the look-ahead along time"),
}


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
