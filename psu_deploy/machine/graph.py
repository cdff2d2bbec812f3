"""The data of a state machine: a validated graph of layers, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

from psu_deploy.errors import InputError, StateError
from psu_deploy.machine.inputs import check_counter, check_numbers, state_shape
from psu_deploy.machine.ops import Hold, Layer, Neuron, Outputs
from psu_deploy.machine.ops.fields import Shape, feature_shape, is_text
from psu_deploy.machine.schedule import INPUT, OUTPUT, STEP, Turn, state_name


@dataclass(frozen=True)
class Node:
    """One layer and where its inputs come from.

    Args:
        name: unique; the module's path in the captured model.
        layer: what it computes.
        inputs: names of earlier nodes, or `"x"` for the network's input.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]


class StateTensor(NamedTuple):
    """One tensor of state: (B, *shape), or () for the step counter, which all samples share. Starts at zero."""

    shape: Shape
    dtype: str
    batched: bool


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as a directed acyclic graph of layers plus named state tensors. Nothing runs here.

    Args:
        nodes: layers in an order in which every input is computed before it is used.
        input_shape: features of one input step, no time, no batch.
        output: name of the node that is the network's output; "" = the last one. A network with several ends in
            `ops.Outputs`.

    A layer that looks ahead answers late: its value at step t belongs to step t - lookahead. `latencies` adds that up.
    A layer behind it starts when its first input arrives: until then its state stays as it is and its output is zero.

    Raises:
        InputError: if a name is used twice or unknown, a layer gets the wrong number of inputs, shapes do not fit, or
            inputs of one layer belong to different steps.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    output: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "input_shape", feature_shape(self.input_shape))
        if not self.nodes:
            raise InputError("a state machine needs at least one layer")
        object.__setattr__(self, "output", self.output or self.nodes[-1].name)
        if self.output not in self.shapes or self.output == INPUT:
            raise InputError(f"output {self.output!r} is not a layer; layers are {[n.name for n in self.nodes]}")
        read = {name for node in self.nodes for name in node.inputs}
        ends = {node.name for node in self.nodes if isinstance(node.layer, Outputs)}
        if ends - {self.output} or ends & read:
            raise InputError("Outputs is the last layer of a network, which no other reads")
        latency = self.latency  # refuses inputs that belong to different steps
        if self.horizon is not None and self.horizon <= latency:
            raise InputError(f"the machine ends after {self.horizon} steps, before its first answer")

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Name of every layer (and `"x"`) -> features of one step."""
        shapes = {INPUT: self.input_shape}
        for node in self.nodes:
            if not node.name or node.name in shapes or node.name == STEP:
                raise InputError(f"layer name {node.name!r} is empty, reserved or used twice")
            if not is_text(node.name):
                raise InputError(f"layer name {node.name!r} is no text that a file could hold; give the layer another")
            unknown = [name for name in node.inputs if name not in shapes]
            if unknown:
                raise InputError(f"layer {node.name!r}: inputs {unknown} are not computed before it")
            if len(node.inputs) != node.layer.arity and (node.layer.arity is not None or len(node.inputs) < 2):
                raise InputError(f"layer {node.name!r}: {type(node.layer).__name__} got {len(node.inputs)} input(s)")
            try:
                shapes[node.name] = node.layer.output_shape(*(shapes[name] for name in node.inputs))
            except InputError as error:
                raise InputError(f"layer {node.name!r}: {error}") from error
        return shapes

    @cached_property
    def end(self) -> Node:
        """The node that is the network's output."""
        return next(node for node in self.nodes if node.name == self.output)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Name of every output -> the layer that computes it, or `"x"`."""
        if not isinstance(self.end.layer, Outputs):
            return {OUTPUT: self.output}
        return dict(zip(self.end.layer.names, self.end.inputs, strict=True))

    @cached_property
    def outputs(self) -> dict[str, Shape]:
        """Name -> features of every output of one step; the only one is called `"y"`."""
        return {name: self.shapes[source] for name, source in self.sources.items()}

    def split(self, y: Any) -> dict[str, Any]:
        """Name -> numbers of every output, (..., *features), from what the last layer gives, numpy or torch."""
        if not isinstance(self.end.layer, Outputs):
            return {OUTPUT: y}
        ends = list(accumulate(map(prod, self.outputs.values()), initial=0))
        parts = zip(self.outputs.items(), pairwise(ends), strict=True)
        return {name: y[..., start:end].reshape(*y.shape[:-1], *shape) for (name, shape), (start, end) in parts}

    @cached_property
    def horizon(self) -> int | None:
        """Number of steps the machine is defined for, those it waits for a look-ahead included; None = any number."""
        ends = [self.starts[n.name] + n.layer.horizon for n in self.nodes if n.layer.horizon is not None]
        return min(ends, default=None)

    @cached_property
    def max_steps(self) -> int | None:
        """Steps of the longest sequence it can answer, `horizon - latency`; None = any number."""
        return None if self.horizon is None else self.horizon - self.latency

    @cached_property
    def latency(self) -> int:
        """Steps between an input and its output."""
        return self.latencies[self.output]

    @cached_property
    def latencies(self) -> dict[str, int]:
        """Name of every layer (and `"x"`) -> steps by which its value lags behind the network's input."""
        latencies = {INPUT: 0}
        for node in self.nodes:
            arrivals = {name: latencies[name] for name in node.inputs}
            if len(set(arrivals.values())) > 1:
                raise InputError(
                    f"layer {node.name!r}: its inputs belong to different steps, they lag by {arrivals}; "
                    "put a Wait behind the faster ones"
                )
            latencies[node.name] = max(arrivals.values()) + node.layer.lookahead
        return latencies

    @cached_property
    def starts(self) -> dict[str, int]:
        """Name of every layer -> the step at which its first input arrives."""
        return {node.name: max(self.latencies[name] for name in node.inputs) for node in self.nodes}

    @cached_property
    def once(self) -> frozenset[str]:
        """Names of the layers that are read by `Hold` alone, directly or not: one step of them is enough."""
        names: set[str] = set()
        for node in reversed(self.nodes):
            readers = [other for other in self.nodes if node.name in other.inputs]
            held = all(isinstance(reader.layer, Hold) or reader.name in names for reader in readers)
            plain = not self.roles(node.name) and not isinstance(node.layer, Neuron)
            if readers and held and plain and node.name != self.output:
                names.add(node.name)
        return frozenset(names)

    @cached_property
    def schedule(self) -> tuple[Turn, ...]:
        """When every layer runs, in order."""
        return tuple(
            Turn(
                node.name,
                node.layer,
                node.inputs,
                {role: state_name(node.name, role) for role in self.roles(node.name)},
                self.shapes[node.name],
                self.starts[node.name],
                self.latencies[node.name],
                node.name in self.once,
            )
            for node in self.nodes
        )

    @cached_property
    def binary(self) -> frozenset[str]:
        """Names of the layers whose output is 0 or 1 everywhere: neurons, and what keeps their spikes as they are."""
        names: set[str] = set()
        for node in self.nodes:
            if isinstance(node.layer, Neuron) or (node.layer.keeps_spikes and names.issuperset(node.inputs)):
                names.add(node.name)
        return frozenset(names)

    @cached_property
    def static_input(self) -> bool:
        """Whether all that reads the input is computed once: it is one image, shown at every step."""
        readers = [node.name for node in self.nodes if INPUT in node.inputs]
        return all(name in self.once for name in readers)

    @cached_property
    def state_spec(self) -> dict[str, StateTensor]:
        """Name -> shape and dtype of every state tensor. The step counter, where one is needed, is `"step"`."""
        spec = {}
        if self.latency or any(node.layer.uses_step or self.starts[node.name] for node in self.nodes):
            spec[STEP] = StateTensor((), "int64", batched=False)
        for node in self.nodes:
            for role, shape in self._layer_state(node).items():
                spec[state_name(node.name, role)] = StateTensor(shape, "float32", batched=True)
        return spec

    @cached_property
    def spiking(self) -> tuple[str, ...]:
        """Names of the neuron layers, in network order."""
        return tuple(node.name for node in self.nodes if isinstance(node.layer, Neuron))

    def roles(self, name: str) -> tuple[str, ...]:
        """Roles of the state tensors that layer `name` owns."""
        return self._roles[name]

    @cached_property
    def _roles(self) -> dict[str, tuple[str, ...]]:
        return {node.name: tuple(self._layer_state(node)) for node in self.nodes}

    def _layer_state(self, node: Node) -> dict[str, Shape]:
        return node.layer.state_shapes(*(self.shapes[name] for name in node.inputs))


def check_state(state: Mapping[str, Any], spec: Mapping[str, StateTensor], batch: int) -> None:
    """Raise `StateError` unless state has exactly the tensors of spec, for this batch size, all of finite numbers."""
    if not isinstance(state, Mapping):
        raise StateError(f"a state maps names to arrays, as initial_state() does; got {type(state).__name__}")
    if set(state) != set(spec):
        missing, unknown = (sorted(names, key=str) for names in (set(spec) - set(state), set(state) - set(spec)))
        raise StateError(f"state does not belong to this machine: missing {missing}, unknown {unknown}")
    for name, tensor in spec.items():
        expected = (batch, *tensor.shape) if tensor.batched else ()
        shape = state_shape(name, state[name])
        if shape != expected:
            raise StateError(
                f"state {name!r} has shape {shape} but the input needs {expected}; "
                f"start from initial_state(batch_size={batch})"
            )
        if tensor.batched:
            check_numbers(name, state[name])
        else:
            check_counter(state[name])
