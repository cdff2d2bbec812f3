"""State machine -> ONNX step graph: `(x, state...) -> (y, state...)`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from psu_deploy.errors import ArtifactError, InternalError
from psu_deploy.exporters.onnx.builder import Builder
from psu_deploy.exporters.onnx.lower import WRITTEN, check, in_branch, lower
from psu_deploy.exporters.onnx.neurons import NeuronValues
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.exporters.onnx.sequence import as_sequence
from psu_deploy.exporters.onnx.target import PREFIX, TARGET
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.schedule import INPUT, OUTPUT, STEP, state_name

NEXT = ".next"
"""Suffix of the output that carries a state tensor to the next step."""

_NONE: Mapping[str, int] = {}


def emit(machine: StateMachine, metadata: dict[str, Any], events: Mapping[str, int] = _NONE) -> onnx.ModelProto:
    """Build the checked, shape-inferred ONNX model of one step, or of a sequence.

    Args:
        machine: what to emit.
        metadata: key -> value, written as JSON under `psu_deploy.<key>`; with `sequence`, the model is one of
            sequences. What is known only here is added: `states`, `neurons`, `input`, `output` (or `outputs`), and
            `events` where there are any.
        events: see `event_layers`.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
    """
    check(machine)
    proto = build(machine, metadata, events)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto, full_check=True)
        if metadata.get("sequence"):
            proto = as_sequence(proto)
            onnx.checker.check_model(proto, full_check=True)
    except (ValueError, EncodeError) as error:
        raise ArtifactError(f"the model is too large for one ONNX file (2 GiB): {error}") from error
    return proto


def build(
    machine: StateMachine, metadata: dict[str, Any], events: Mapping[str, int] = _NONE, *, subnormals: bool = False
) -> onnx.ModelProto:
    """The model as it is written down, before ONNX has looked at it: the same nodes and names for the same machine.

    Args:
        machine: the network.
        metadata: what the file says of it; `weights`, what they are stored as.
        events: layer -> the largest number of spikes for which it gathers rows.
        subnormals: keep subnormal coefficients, as earlier releases did.
    """
    graph = _Graph(machine, events, Builder(subnormals=subnormals, weights=metadata.get("weights", "float32")))
    strange = {node.op_type for node in graph.builder.nodes} - WRITTEN
    if strange:
        raise InternalError(
            f"a rule writes {', '.join(sorted(strange))}, which readers would refuse: name it in WRITTEN, in "
            "psu_deploy/exporters/onnx/lower.py"
        )
    model = ir.Model(
        ir.Graph(
            graph.inputs,
            graph.outputs,
            nodes=graph.builder.nodes,
            initializers=graph.builder.initializers,
            opset_imports={"": TARGET.opset},
            name="psu_step",
        ),
        ir_version=TARGET.ir_version,
        producer_name="psu-deploy",
        producer_version=metadata["versions"]["psu-deploy"],
        metadata_props={PREFIX + key: json.dumps(value) for key, value in (metadata | graph.metadata()).items()},
    )
    return ir.to_proto(model)


class _Graph:
    """The step graph under construction."""

    def __init__(self, machine: StateMachine, events: Mapping[str, int], builder: Builder) -> None:
        self._machine = machine
        self._events = events
        self.builder = builder
        self._states = {
            name: self.builder.input(name, spec.shape, spec.dtype, batched=spec.batched)
            for name, spec in machine.state_spec.items()
        }
        x = self.builder.input(INPUT, machine.input_shape, TARGET.dtype, batched=True)
        self.inputs = [x, *self._states.values()]
        self.builder.reserve(*(name + NEXT for name in machine.state_spec))
        names = [OUTPUT if name == OUTPUT else f"{OUTPUT}.{name}" for name in machine.outputs]
        self._ends = dict(zip(machine.outputs, self.builder.reserve(*names), strict=True))
        self._values = {INPUT: x}
        self._following: dict[str, ir.Value] = {}
        self._neurons: dict[str, NeuronValues] = {}
        for node in machine.nodes:
            if in_branch(node.layer):
                self._hold(node)
            elif isinstance(node.layer, ops.Outputs):
                continue  # each of them is an output of the graph
            elif node.name not in machine.once:  # those are lowered with the Hold that reads them
                self._lower(node)
        self.outputs = self._close()

    def _lower(self, node: Node) -> None:
        scope = self._scope(node, self.builder)
        lowered = lower(node.layer, [self._values[name] for name in node.inputs], scope)
        self._values[node.name] = lowered.value
        self._following |= {state_name(node.name, role): value for role, value in scope.following.items()}
        if lowered.neuron is not None:
            self._neurons[node.name] = lowered.neuron

    def _scope(self, node: Node, builder: Builder) -> Scope:
        machine = self._machine
        current = {role: self._states[state_name(node.name, role)] for role in machine.roles(node.name)}
        shapes = tuple(machine.shapes[name] for name in node.inputs)
        return Scope(
            builder,
            node.name,
            shapes,
            current,
            self._states.get(STEP),
            machine.starts[node.name],
            node.inputs[0] in machine.binary,
            self._events.get(node.name),
        )

    def _hold(self, node: Node) -> None:
        """`If` it is the first step, compute everything that only this layer reads; else take the state."""
        scope, inner = self._scope(node, self.builder), self.builder.branch()
        first = self.builder.op(
            "Equal", scope.counter(), self.builder.integers(0, "first"), name=f"{node.name}.is_first"
        )
        values = dict(self._values)
        for earlier in self._only_for(node):
            inputs = [values[name] for name in earlier.inputs]
            values[earlier.name] = lower(earlier.layer, inputs, self._scope(earlier, inner)).value
        computed = inner.op("Identity", values[node.inputs[0]], name=f"{node.name}.computed")
        outer = self.builder.branch()
        kept = outer.op("Identity", scope.state("value"), name=f"{node.name}.kept")
        branches = {
            "then_branch": ir.Graph([], [computed], nodes=inner.nodes, name=f"{node.name}.first"),
            "else_branch": ir.Graph([], [kept], nodes=outer.nodes, name=f"{node.name}.later"),
        }
        value = self.builder.op("If", first, name=node.name, **branches)
        scope.set_state("value", value)
        self._values[node.name] = value
        self._following[state_name(node.name, "value")] = scope.following["value"]

    def _only_for(self, hold: Node) -> list[Node]:
        """The layers computed once that a Hold depends on, in order."""
        needed, found = set(hold.inputs), []
        for node in reversed(self._machine.nodes):
            if node.name in needed & self._machine.once:
                needed.update(node.inputs)
                found.append(node)
        return found[::-1]

    def _close(self) -> list[ir.Value]:
        """Name and type the outputs; every output is a value of its own."""
        b, machine = self.builder, self._machine
        if STEP in self._states:
            self._following[STEP] = b.op("Add", self._states[STEP], b.integers(1, "one"), name="steps_done")
        outputs: list[ir.Value] = []
        for name, source in machine.sources.items():
            y = self._own(self._values[source], machine.shapes[source], outputs)
            outputs.append(b.output(y, self._ends[name], machine.shapes[source], TARGET.dtype, batched=True))
        for name, spec in machine.state_spec.items():
            value = self._following[name]
            outputs.append(b.output(value, name + NEXT, spec.shape, spec.dtype, batched=spec.batched))
        return outputs

    def _own(self, y: ir.Value, shape: tuple[int, ...], others: Sequence[ir.Value]) -> ir.Value:
        """An output as a value of its own: neither a state nor an input, which must keep their names, nor another."""
        b = self.builder
        if self._machine.latency:
            gate = Scope(b, OUTPUT, (shape,), {}, self._states[STEP], self._machine.latency)
            return gate.gated(y, b.floats(0.0, "silence"), "in_time")
        shared = any(y is other for other in (*self._following.values(), *self.inputs, *others))
        return b.op("Identity", y, name="copy") if shared else y

    def metadata(self) -> dict[str, Any]:
        states = [
            {
                "name": name,
                "input": name,
                "output": name + NEXT,
                "shape": list(spec.shape),
                "dtype": spec.dtype,
                "batched": spec.batched,
                "initial": 0,
            }
            for name, spec in self._machine.state_spec.items()
        ]
        neurons = {
            name: {
                "spikes": values.spikes.name,
                "potential": values.potential.name,
                "reset": None if values.reset is None else values.reset.name,
                "threshold": values.threshold,
                "margin": None if values.margin is None else values.margin.name,
            }
            for name, values in self._neurons.items()
        }
        ends = {"input": {"name": INPUT, "shape": list(self._machine.input_shape)}} | self._outputs()
        events = {"events": dict(self._events)} if self._events else {}
        return ends | {"states": states, "neurons": neurons} | events

    def _outputs(self) -> dict[str, Any]:
        shapes = {name: list(shape) for name, shape in self._machine.outputs.items()}
        if tuple(shapes) == (OUTPUT,):
            return {"output": {"name": OUTPUT, "shape": shapes[OUTPUT]}}
        several = [{"name": name, "value": self._ends[name], "shape": shape} for name, shape in shapes.items()]
        return {"outputs": several}
