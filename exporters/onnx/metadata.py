"""Our metadata in an ONNX file: read strictly, and held against the graph it speaks of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.size import check_size
from psu_deploy.exporters.onnx.target import PREFIX, TARGET
from psu_deploy.exporters.onnx.vocabulary import check_vocabulary
from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops.along_time import MAX_DELAY
from psu_deploy.machine.schedule import STEP

FORMAT = "psu-deploy.onnx.1"


def facts_of(machine: StateMachine) -> dict[str, object]:
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
    }


def read_metadata(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    """Fidelity, horizon, states, neurons, ..., decoded and checked.

    Raises:
        ArtifactError: if the file was not written by us, is of another format, holds what we never write or more than
            memory allows, or its metadata do not fit its graph.
    """
    try:
        properties = {entry.key: entry.value for entry in model.metadata_props}
        metadata = _decode(path, properties)
        _check_values(metadata)
        _check_states(metadata["states"])
        check_vocabulary(path, model)
        _check_graph(metadata, model.graph)
        check_size(path, model, model.ByteSize())
    except (_MalformedError, ValueError, RecursionError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path} has malformed {PREFIX}* metadata, or is truncated: {error}") from error
    return metadata


class _MalformedError(Exception):
    """What does not fit."""


def _decode(path: Path, properties: Mapping[str, str]) -> dict[str, Any]:
    ours = {key.removeprefix(PREFIX): value for key, value in properties.items() if key.startswith(PREFIX)}
    if not ours:
        raise ArtifactError(f"{path} is an ONNX file but was not written by psu-deploy: it has no {PREFIX}* metadata")
    metadata = {key: json.loads(value) for key, value in ours.items()}
    if metadata.get("format") != FORMAT:
        raise ArtifactError(f"{path} has format {metadata.get('format')!r}; this release reads {FORMAT!r}")
    return metadata


def _check_values(metadata: Mapping[str, Any]) -> None:
    for key, fits in _FITS.items():
        if key not in metadata:
            raise _MalformedError(f"{key!r} is missing")
        if not fits(metadata[key]):
            raise _MalformedError(f"{key!r} is {metadata[key]!r}")


def _check_states(states: list[dict[str, Any]]) -> None:
    """The step counter is one number for all samples, and everything else one tensor per sample."""
    for state in states:
        counts = (state["dtype"], state["batched"], state["shape"]) == ("int64", False, [])
        if (state["name"] == STEP) != counts or not (counts or (state["dtype"] == TARGET.dtype and state["batched"])):
            raise _MalformedError(f"state {state['name']!r} is {state}")
    if len({state["name"] for state in states}) != len(states):
        raise _MalformedError("two states have one name")


def _check_graph(metadata: Mapping[str, Any], graph: onnx.GraphProto) -> None:
    """Inputs, outputs and inner values must be those the metadata name, with the shapes they say."""
    ends = {
        "inputs": (graph.input, metadata["input"], "input"),
        "outputs": (graph.output, metadata["output"], "output"),
    }
    for what, (values, main, side) in ends.items():
        said = {main["name"]: _signature(main["shape"], TARGET.dtype, True)}
        said |= {s[side]: _signature(s["shape"], s["dtype"], s["batched"]) for s in metadata["states"]}
        found = {value.name: _found(value) for value in values}
        if said != found:
            raise _MalformedError(f"the graph's {what} are {found}, the metadata say {said}")
    inner = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    for layer, names in metadata["neurons"].items():
        unknown = {names["spikes"], names["potential"], names["reset"], names["margin"]} - inner - {None}
        if unknown:
            raise _MalformedError(f"neuron layer {layer!r}: the graph has no value {unknown}")


def _signature(shape: list[int], dtype: str, batched: bool) -> tuple[Any, ...]:
    return dtype, *([TARGET.batch] if batched else []), *shape


def _found(value: onnx.ValueInfoProto) -> tuple[Any, ...]:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "none"
    return dtype, *(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)


def _whole(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _shape(value: Any) -> bool:
    return isinstance(value, list) and all(_whole(n, 0) for n in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _record(**fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A dictionary with exactly these keys."""
    return lambda v: isinstance(v, dict) and v.keys() == fits.keys() and all(fit(v[key]) for key, fit in fits.items())


def _text(value: Any) -> bool:
    return isinstance(value, str)


_state = _record(
    name=_text,
    input=_text,
    output=_text,
    shape=_shape,
    dtype=lambda v: v in ("float32", "int64"),
    batched=lambda v: isinstance(v, bool),
    initial=lambda v: v == 0,
)
_neuron = _record(
    spikes=_text,
    potential=_text,
    reset=lambda v: v is None or _text(v),
    threshold=lambda v: isinstance(v, int | float),
    margin=lambda v: v is None or _text(v),
)
_FITS: dict[str, Callable[[Any], bool]] = {
    "fidelity": lambda v: v in ("faithful", "approximate"),
    "approximations": _texts,
    "horizon": lambda v: v is None or _whole(v, 1),
    "latency": lambda v: _whole(v, 0) and v <= MAX_DELAY,
    "static_input": lambda v: isinstance(v, bool),
    "machine_hash": _text,
    "versions": lambda v: isinstance(v, dict) and _texts(list(v.values())),
    "input": _record(name=lambda v: v == "x", shape=_shape),
    "output": _record(name=lambda v: v == "y", shape=_shape),
    "states": lambda v: isinstance(v, list) and all(map(_state, v)),
    "neurons": lambda v: isinstance(v, dict) and all(map(_neuron, v.values())),
}
"""Key -> whether a value makes sense."""
