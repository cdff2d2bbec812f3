"""State machines on disk: one safetensors file whose header carries the graph as JSON. No pickle, no code.

Header keys: `format` = "psu-deploy.machine", `version` = "1", `hash` = content hash, `machine` = JSON:
`{"input_shape", "latency", "output", "nodes": [{"name", "inputs", "layer": {"type", ...fields}}]}`.
An array field is `{"tensor": key}`; a nested operator is again `{"type", ...fields}`.
Numbers that float32 holds exactly are stored as float32.

Who made the machine may attach what it was made of, a text and arrays: the key `attached`, tensors `attached/...`.
They are no part of the machine, nor of its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.files.atomic import write_whole
from psu_deploy.files.limits import NUMBER, OBJECT, check_memory
from psu_deploy.machine import ops
from psu_deploy.machine.graph import Graph, Node
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.fields import Array, saved_fields
from psu_deploy.machine.ops.registry import KINDS
from psu_deploy.machine.size import check_size

FORMAT = "psu-deploy.machine"
VERSION = "1"

MAX_LAYERS = 10_000
MAX_LINKS = 100_000
"""Of a graph, and inputs of all its layers; more is no network, and would take minutes to check."""


ATTACHED = "attached"
"""Key of the attached text; with a slash behind it, what the names of attached tensors begin with."""


@dataclass(frozen=True)
class Attachment:
    """What a machine was made of, for whoever wants to change it and make another.

    Args:
        text: says what the arrays are.
        arrays: name -> numbers, float32 or float64.
    """

    text: str
    arrays: Mapping[str, Any]


def save(graph: Graph, path: str | Path, attachment: Attachment | None = None) -> Path:
    """Write a machine to a file, whole or not at all.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator that `load` would not know.
        ArtifactError: if the file cannot be written.
    """
    header, arrays = _encode_graph(graph)
    metadata = {"format": FORMAT, "version": VERSION, "machine": json.dumps(header), "hash": content_hash(graph)}
    tensors = {key: _compact(array) for key, array in arrays.items()}
    if attachment is not None:
        metadata[ATTACHED] = attachment.text
        tensors |= {f"{ATTACHED}/{name}": array for name, array in attachment.arrays.items()}
    write_whole(path, to_bytes(tensors, metadata))
    return Path(path)


def load_attachment(path: str | Path) -> Attachment | None:
    """What is attached to a machine; None where nothing is. Anything but a saved machine is an `ArtifactError`."""
    source = Path(path)
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(source, metadata)
            names = [key for key in file.keys() if key.startswith(f"{ATTACHED}/")]  # noqa: SIM118  as below
            arrays = {key.partition("/")[2]: _plain(file.get_tensor(key)) for key in names}
    except SafetensorError as error:
        raise ArtifactError(f"{source} is truncated or is not a psu-deploy machine: {error}") from error
    except (InputError, TypeError) as error:
        raise ArtifactError(f"{source} is malformed: {error}") from error
    return Attachment(metadata[ATTACHED], arrays) if ATTACHED in metadata else None


def load(path: str | Path) -> Graph:
    """Read a machine from a file written by `save`; anything else is an `ArtifactError`."""
    source = Path(path)
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    size = source.stat().st_size
    try:
        with safe_open(source, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(source, metadata)
            keys = [key for key in file.keys() if not key.startswith(f"{ATTACHED}/")]  # noqa: SIM118  it is no mapping
            arrays = {key: _plain(file.get_tensor(key)) for key in keys}
        check_memory(OBJECT * len(metadata["machine"]), size, f"{source}: its graph, {len(metadata['machine'])} bytes,")
        header = json.loads(metadata["machine"])
        _check_claims(source, header, arrays, size)
        graph = _decode_graph(header, arrays)
        check_size(graph, size, str(source))
        if metadata["hash"] != content_hash(graph):
            raise ArtifactError(f"{source} is damaged: its numbers are not those it was saved with")
        return graph
    except SafetensorError as error:
        raise ArtifactError(f"{source} is truncated or is not a psu-deploy machine: {error}") from error
    except (InputError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{source} is malformed: {error}") from error


def _check_claims(source: Path, header: Any, arrays: Mapping[str, Any], size: int) -> None:
    """Raise unless what the header asks for can be made: it may name one tensor many times, and each is a copy."""
    layers, links = len(header["nodes"]), sum(len(node["inputs"]) for node in header["nodes"])
    if layers > MAX_LAYERS or links > MAX_LINKS:
        raise InputError(f"{layers} layers with {links} inputs; expected at most {MAX_LAYERS} with {MAX_LINKS}")
    numbers, waiting = 0, [header["nodes"]]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and isinstance(value.get("tensor"), str) and value["tensor"] in arrays:
            numbers += arrays[value["tensor"]].size
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    check_memory(NUMBER * numbers, size, f"{source}: {numbers} numbers")


def content_hash(graph: Graph) -> str:
    """SHA-256 over the graph and every number in it, as hex.

    Raises:
        UnsupportedModelError: as `save`; a kind is hashed by its name, which only says something if it is one of ours.
    """
    header, arrays = _encode_graph(graph)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for array in arrays.values():
        digest.update(str(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


def _check_kinds(graph: Graph) -> None:
    Vocabulary.registered("the .psm format").check(graph.nodes, "save the machine")


def _check_format(source: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ArtifactError(f"{source} is a safetensors file but not a psu-deploy machine")
    if metadata.get("version") != VERSION:
        raise ArtifactError(
            f"{source} has machine format version {metadata.get('version')!r}; this release reads {VERSION!r}"
        )


def _plain(array: Any) -> Any:
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"numbers are stored as float32 or float64, not as {array.dtype}")
    return array


def _compact(array: Array) -> np.ndarray[Any, Any]:
    single = array.astype(np.float32)
    return single if np.array_equal(single.astype(np.float64), array) else array


def _encode_graph(graph: Graph) -> tuple[dict[str, Any], dict[str, Array]]:
    _check_kinds(graph)
    arrays: dict[str, Array] = {}
    nodes = [
        {"name": node.name, "inputs": list(node.inputs), "layer": _encode(node.layer, str(index), arrays)}
        for index, node in enumerate(graph.nodes)
    ]
    header = {"input_shape": list(graph.input_shape), "latency": graph.latency, "output": graph.output}
    return header | {"nodes": nodes}, arrays


def _encode(value: Any, key: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return {"tensor": key}
    if is_dataclass(value):
        encoded = {f.name: _encode(getattr(value, f.name), f"{key}.{f.name}", arrays) for f in saved_fields(value)}
        return {"type": type(value).__name__} | encoded
    return value


def _decode_graph(header: Any, arrays: Mapping[str, Any]) -> Graph:
    nodes = tuple(
        Node(str(node["name"]), _layer(node["layer"], arrays), tuple(map(str, node["inputs"])))
        for node in header["nodes"]
    )
    graph = Graph(nodes, tuple(header["input_shape"]), str(header["output"]))
    if header["latency"] != graph.latency:
        raise InputError(f"says latency {header['latency']!r}, its layers make it {graph.latency}")
    return graph


def _layer(value: Any, arrays: Mapping[str, Any]) -> ops.Layer:
    layer = _decode(value, arrays)
    if not isinstance(layer, ops.Layer):
        raise InputError(f"{type(layer).__name__} is not a layer")
    return layer


def _decode(value: Any, arrays: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"tensor"}:
        return arrays[value["tensor"]]
    kind = KINDS.get(value.get("type", ""))
    if kind is None:
        raise InputError(f"unknown type {value.get('type')!r}")
    arguments = {name: _decode(item, arrays) for name, item in value.items() if name != "type"}
    if set(arguments) != {field.name for field in saved_fields(kind)}:
        raise InputError(f"{kind.__name__} has fields {sorted(arguments)}")
    return kind(**arguments)
