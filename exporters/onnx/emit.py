"""State machine -> ONNX step graph: `(x, state...) -> (y, state...)`."""

from __future__ import annotations

import json
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.builder import Builder
from psu_deploy.exporters.onnx.lower import NeuronValues, lower
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.exporters.onnx.target import PREFIX, TARGET
from psu_deploy.machine import StateMachine
from psu_deploy.machine.graph import INPUT, STEP

OUTPUT = "y"

NEXT = ".next"
"""Suffix of the output that carries a state tensor to the next step."""


def emit(machine: StateMachine, metadata: dict[str, Any]) -> onnx.ModelProto:
    """Build the checked, shape-inferred ONNX model of one step.

    Args:
        machine: what to emit.
        metadata: key -> value, written as JSON under `psu_deploy.<key>`, with what is known only here added:
            `states`, `neurons`, `input`, `output`.
    """
    graph = _Graph(machine)
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
    proto = ir.to_proto(model)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(proto, full_check=True)
    except (ValueError, EncodeError) as error:
        raise ArtifactError(f"the model is too large for one ONNX file (2 GiB): {error}") from error
    return proto


class _Graph:
    """The step graph under construction."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self.builder = Builder()
        self._states = {
            name: self.builder.input(name, spec.shape, spec.dtype, batched=spec.batched)
            for name, spec in machine.state_spec.items()
        }
        x = self.builder.input(INPUT, machine.input_shape, TARGET.dtype, batched=True)
        self.inputs = [x, *self._states.values()]
        self.builder.reserve(OUTPUT, *(name + NEXT for name in machine.state_spec))
        self._values = {INPUT: x}
        self._following: dict[str, ir.Value] = {}
        self._neurons: dict[str, NeuronValues] = {}
        for node in machine.nodes:
            self._lower(node.name)
        self.outputs = self._close()

    def _lower(self, name: str) -> None:
        node = next(node for node in self._machine.nodes if node.name == name)
        current = {role: self._states[f"{name}.{role}"] for role in self._machine.roles(name)}
        features = self._machine.shapes[node.inputs[0]]
        scope = Scope(self.builder, name, features, current, self._states.get(STEP))
        lowered = lower(node.layer, [self._values[i] for i in node.inputs], scope)
        self._values[name] = lowered.value
        self._following |= {f"{name}.{role}": scope.following[role] for role in current}
        if lowered.neuron is not None:
            self._neurons[name] = lowered.neuron

    def _close(self) -> list[ir.Value]:
        """Name and type the outputs; every output is a value of its own."""
        b, machine = self.builder, self._machine
        if STEP in self._states:
            self._following[STEP] = b.op("Add", self._states[STEP], b.integers(1, "one"), name="steps_done")
        y = self._values[machine.output]
        y = b.op("Identity", y, name="copy") if self._shared() else y
        outputs = [b.output(y, OUTPUT, machine.shapes[machine.output], TARGET.dtype, batched=True)]
        for name, spec in machine.state_spec.items():
            value = self._following[name]
            outputs.append(b.output(value, name + NEXT, spec.shape, spec.dtype, batched=spec.batched))
        return outputs

    def _shared(self) -> bool:
        """Whether the output is also a state or an input, which must keep a name of its own."""
        value = self._values[self._machine.output]
        return any(value is other for other in (*self._following.values(), *self.inputs))

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
            }
            for name, values in self._neurons.items()
        }
        output_shape = list(self._machine.shapes[self._machine.output])
        io = {"input": {"name": INPUT, "shape": list(self._machine.input_shape)}}
        return io | {"output": {"name": OUTPUT, "shape": output_shape}, "states": states, "neurons": neurons}
