"""What a recording writes down: nodes of the machine, what stands in the way, and which tensors are the network's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from psu_deploy.capture import steps
from psu_deploy.capture.axes import Axes
from psu_deploy.capture.check import check_layers
from psu_deploy.capture.nodes import Nodes
from psu_deploy.capture.origins import Origins
from psu_deploy.capture.patches import unseen
from psu_deploy.capture.random_spikes import random_spikes
from psu_deploy.capture.shortcuts import expanded, first_sample
from psu_deploy.capture.source import source_line
from psu_deploy.capture.trees import leaves, mapped
from psu_deploy.capture.values import ALWAYS, UNKNOWN, Example, Unread, Value, When
from psu_deploy.errors import Problem, Refusal
from psu_deploy.machine import ops


class Notebook:
    """What rules and converters see of a recording.

    Args:
        example: sizes of the input.
        read: called where a number that was made of the input leaves the tensors.

    Attributes:
        nodes: of the machine.
        problems: all that stands in the way.
        given: numbers in the network's output.
        input: the network's.
        origins: follows the input's numbers where no rule sees them.
    """

    input: Value

    def __init__(self, example: Example, read: Callable[[], None]) -> None:
        self.example = example
        self.nodes = Nodes()
        self.problems: list[Problem] = []
        self.given = 0
        self.origins = Origins(read)
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # an id is only unique while its tensor lives

    def emit(
        self,
        name: str,
        layers: ops.Layer | Sequence[ops.Layer],
        inputs: Sequence[Value],
        result: Tensor,
        axes: Axes,
        when: When | None = None,
    ) -> Value:
        """Write down layers, one behind the other, the first of which reads the inputs."""
        layers = (layers,) if isinstance(layers, ops.Layer) else tuple(layers)
        when = steps.common(inputs) if when is None else when
        if any(value.node == UNKNOWN for value in inputs):
            return Value(result, UNKNOWN, axes, when)
        steps.check_sizes(Value(result, name, axes, when), self.example)
        if self.example.first:
            with unseen():
                check_layers(layers, inputs, Value(result, UNKNOWN, axes, when), self.example)
        sources = tuple(value.node for value in inputs)
        for layer in layers:
            path = name if layer is layers[-1] else f"{name}.{type(layer).__name__.lower()}"
            known = self.nodes.find(path, layer, sources) if isinstance(when, range) or when == ALWAYS else None
            node = known or self.nodes.add(path, layer, sources, source_line())
            sources = (node,)
        value = Value(result, sources[0], axes, when)
        self.nodes.seen.setdefault(value.node, []).append(value)
        return value

    def layer_of(self, value: Value) -> ops.Layer | None:
        """What computes a value; None for the network's input."""
        return self.nodes[value.node].layer if value.node in self.nodes else None

    def source_of(self, value: Value) -> Value:
        """What the layer that computes a value reads, if it reads one thing."""
        (source,) = self.nodes[value.node].inputs
        return self.nodes.seen[source][0] if source in self.nodes.seen else self.input

    def spiking(self, value: Value) -> Value:
        """Spikes at random instead of those of a neuron layer: on this example it may well be silent."""
        self.nodes.spikes.setdefault(value.node, [])
        drawn = self.nodes.spikes[value.node]
        seed = 1000 * len(self.nodes.spikes) + len(drawn) + self.example.seed
        if self.example.repeated:
            tensor = expanded(random_spikes(first_sample(value), seed), value)
        else:
            tensor = random_spikes(value.tensor, seed)
        spikes = Value(tensor, value.node, value.axes, value.when)
        drawn.append(spikes)
        return spikes

    # -- what stands in the way ---------------------------------------------------------------------------------

    def note(self, path: str, kind: str, error: Refusal) -> None:
        """Something stands in the way."""
        problem = Problem(path, kind, error.reason, error.remedy)
        if problem not in self.problems:  # a loop meets it at every step
            self.problems.append(problem)

    def note_call(self, name: str, error: Refusal) -> None:
        """A call between the modules stands in the way."""
        self.note(f"forward ({source_line()})", name.strip("_"), error)

    # -- tensors of the network ----------------------------------------------------------------------------------

    def unwrap(self, arguments: Any) -> Any:
        """Arguments with tensors of the network as `Value`."""
        return mapped(self.known, arguments)

    def known(self, leaf: Any) -> Any:
        """What is known of a tensor; anything else as it is. Whoever asks may read it."""
        found = self._values.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf
        return self._written(leaf, found) if isinstance(found, Unread) else found

    def _written(self, tensor: Tensor, unread: Unread) -> Value:
        try:
            made = unread.write()
        except Refusal as error:
            self.note(f"forward ({unread.where})", unread.name, error)
            made = Value(tensor, UNKNOWN, unread.axes, unread.when)
        self.keep(tensor, replace(made, tensor=tensor))
        return self._values[id(tensor)]

    def hidden(self, leaf: Any) -> bool:
        """Whether this was made of the input by something that no rule has seen."""
        return self.origins.made_of_input(leaf) and id(leaf) not in self._values

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Know a tensor that the network may come across."""
        self.origins.mark(tensor)
        self._kept.append(tensor)
        self._values[id(tensor)] = value
        if value.node != UNKNOWN:
            self.nodes.claims.append(value)

    def keep_all(self, result: Any, found: Any) -> None:
        """What rules say of each tensor of a result; None: it is a constant."""
        tensors = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
        values = [found] if isinstance(found, Value) or found is None else list(found)
        for tensor, value in zip(tensors, values, strict=True):
            if value is None:
                self._values.pop(id(tensor), None)
                self.origins.clear(tensor)
            else:
                self.keep(tensor, replace(value, tensor=tensor))

    def unknown(self, result: Any, values: list[Value]) -> Any:
        """Go on with the concrete result, to find the next problem."""
        for tensor in leaves(result):
            if isinstance(tensor, Tensor):
                self.keep(tensor, steps.guess(tensor, values, self.example))
        return result

    def with_tensors(self, seen: Any, values: list[Value], tensors: list[Tensor]) -> Any:
        """The same arguments, the values holding these tensors."""
        swapped = {id(v): Value(t, v.node, v.axes, v.when) for v, t in zip(values, tensors, strict=True)}
        return mapped(lambda leaf: swapped.get(id(leaf), leaf), seen)
