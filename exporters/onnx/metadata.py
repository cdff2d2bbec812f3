"""Our metadata in an ONNX file: read strictly, and held against the graph it speaks of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import onnx
from msgspec import Meta, Struct

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.events import MOST
from psu_deploy.exporters.onnx.rounding import Weights, facts_of_rounding
from psu_deploy.exporters.onnx.sequence import step_of
from psu_deploy.exporters.onnx.size import check_size
from psu_deploy.exporters.onnx.target import PREFIX, TARGET
from psu_deploy.exporters.onnx.vocabulary import check_vocabulary
from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops.along_time import MAX_DELAY
from psu_deploy.machine.ops.fields import is_text
from psu_deploy.machine.schedule import OUTPUT, STEP
from psu_deploy.runtime.header import Features, Given, Header, Natural, malformed, read_header

FORMAT = "psu-deploy.onnx.1"


class InputEnd(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes in."""

    name: Literal["x"]
    shape: Features


class OutputEnd(Struct, frozen=True, forbid_unknown_fields=True):
    """What comes out."""

    name: Literal["y"]
    shape: Given


class NamedOutput(Struct, frozen=True, forbid_unknown_fields=True):
    """One of several things that come out: what the network calls it, and what the graph does."""

    name: str
    value: str
    shape: Given


class StateEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of state: what a step reads it as, and what it writes it as."""

    name: str
    input: str
    output: str
    shape: tuple[Natural, ...]
    dtype: Literal["float32", "int64"]
    batched: bool
    initial: Literal[0]


class NeuronNames(Struct, frozen=True, forbid_unknown_fields=True):
    """What the values of a neuron layer are called in the graph."""

    spikes: str
    potential: str
    reset: str | None
    threshold: float
    margin: str | None


@dataclass(frozen=True, kw_only=True)
class OnnxHeader(Header):
    """What an ONNX file of ours says of itself.

    Attributes:
        input: of the graph.
        output: of the graph, where there is one.
        outputs: of the graph, where there are several.
        states: of the graph.
        neurons: layer -> names of its values.
        events: layer that gathers rows -> the largest number of spikes for which it does.
        sequence: whether a call runs a whole sequence; all names are those of the graph of one step.
        weights: what they are stored as.
        rounding: layer -> how far off its weights are by that; see `facts_of_rounding`.
    """

    target: ClassVar[str] = "onnx"
    format: ClassVar[str] = FORMAT

    latency: Annotated[int, Meta(ge=0, le=MAX_DELAY)]
    input: InputEnd
    output: OutputEnd | None = None
    outputs: tuple[NamedOutput, ...] = ()
    states: tuple[StateEntry, ...]
    neurons: dict[str, NeuronNames]
    events: dict[str, Annotated[int, Meta(ge=0, le=MOST)]] = field(default_factory=dict)
    sequence: bool = False
    weights: Weights = "float32"
    rounding: dict[str, float] = field(default_factory=dict)
    input_shape: Features = ()
    output_shape: Given = ()

    @property
    def ends(self) -> tuple[NamedOutput, ...]:
        """Every output."""
        one = () if self.output is None else (NamedOutput(OUTPUT, self.output.name, self.output.shape),)
        return one + self.outputs


def facts_of(machine: StateMachine, weights: Weights = "float32") -> dict[str, object]:
    """What a file says of the machine it was made from, and of who wrote it."""
    packages = ("psu-deploy", "onnx", "onnx-ir", "onnxruntime", "torch", "numpy")
    return {
        "format": FORMAT,
        "fidelity": "faithful",
        "approximations": [],
        "horizon": machine.horizon,
        "latency": machine.latency,
        "static_input": machine.static_input,
        "machine_hash": machine.content_hash,
        "versions": {name: version(name) for name in packages},
    } | facts_of_rounding(machine, weights)


def header_of(path: Path, model: onnx.ModelProto) -> OnnxHeader:
    """What a file says of itself, checked.

    Raises:
        ArtifactError: if the file was not written by us, is of another format, holds what we never write or more than
            memory allows, or its metadata do not fit its graph.
    """
    if any(isinstance(entry.key, bytes) for entry in model.metadata_props):  # which protobuf gives for what is no UTF-8
        raise ArtifactError(f"{path} is damaged: a key of its metadata is no text; export it again")
    ours = {e.key.removeprefix(PREFIX): e.value for e in model.metadata_props if e.key.startswith(PREFIX)}
    if not ours:
        raise ArtifactError(f"{path} is an ONNX file but was not written by psu-deploy: it has no {PREFIX}* metadata")
    try:
        header = read_header(OnnxHeader, {key: json.loads(value) for key, value in ours.items()})
        _check_ends(header)
        _check_states(header.states)
        step = step_of(model) if header.sequence else model
        check_vocabulary(path, step, header.weights)
        _check_graph(header, step.graph)
        check_size(path, step, step.ByteSize())
    except (ValueError, RecursionError, KeyError, AttributeError) as error:
        raise malformed(path, f"{PREFIX}*", error) from error
    numbers = sum(prod(end.shape) for end in header.ends)
    return replace(
        header,
        input_shape=header.input.shape,
        output_shape=(numbers,) if header.output is None else header.output.shape,
    )


def _check_ends(header: OnnxHeader) -> None:
    """One output, or several with names of their own; what goes in and what comes out has a value of its own."""
    if header.output is None and len(header.outputs) < 2:
        raise ValueError("they name neither an output nor several outputs")
    if header.output is not None and header.outputs:
        raise ValueError("they name an output and several outputs")
    if len({end.name for end in header.outputs}) != len(header.outputs):
        raise ValueError("two outputs have one name")
    if not all(is_text(end.name) for end in header.outputs):
        raise ValueError("the name of an output is no text")
    written = [*(end.value for end in header.ends), *(state.output for state in header.states)]
    read = [header.input.name, *(state.input for state in header.states)]
    if len({*written}) != len(written) or len({*read}) != len(read):
        raise ValueError("two outputs, or two states, are one value of the graph")


def _check_states(states: tuple[StateEntry, ...]) -> None:
    """The step counter is one number for all samples, and everything else one tensor per sample."""
    for state in states:
        counts = (state.dtype, state.batched, state.shape) == ("int64", False, ())
        if (state.name == STEP) != counts or not (counts or (state.dtype == TARGET.dtype and state.batched)):
            raise ValueError(f"state {state.name!r} is {state}")
    if len({state.name for state in states}) != len(states):
        raise ValueError("two states have one name")


def _check_graph(header: OnnxHeader, graph: onnx.GraphProto) -> None:
    """Inputs, outputs and inner values must be those the metadata name, with the shapes they say."""
    kept = {"inputs": {s.input: s for s in header.states}, "outputs": {s.output: s for s in header.states}}
    given = {end.value: end.shape for end in header.ends}
    taken = {header.input.name: header.input.shape}
    for what, values, main in (("inputs", graph.input, taken), ("outputs", graph.output, given)):
        said: dict[str, Any] = {name: _signature(shape, TARGET.dtype, True) for name, shape in main.items()}
        said |= {name: _signature(s.shape, s.dtype, s.batched) for name, s in kept[what].items()}
        found = {value.name: _found(value) for value in values}
        if said != found:
            raise ValueError(f"the graph's {what} are {found}, the metadata say {said}")
    inner = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    for layer, names in header.neurons.items():
        unknown = {names.spikes, names.potential, names.reset, names.margin} - inner - {None}
        if unknown:
            raise ValueError(f"neuron layer {layer!r}: the graph has no value {unknown}")


def _signature(shape: tuple[int, ...], dtype: str, batched: bool) -> tuple[Any, ...]:
    return dtype, *([TARGET.batch] if batched else []), *shape


def _found(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "none"
    return dtype, *(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
