"""A .net file as plain data: what Lava is given is looked at first, because Lava hangs on what it does not expect."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

MESSAGE_BITS = 24
"""Of whole numbers between layers; 0 stands for spikes."""


def read(path: str, steps: int) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
    """The input's shape and the layers with a synapse, in order.

    A layer has "type" dense or conv, "flatten", "shape", "weight", "bias", "neuron", "message_bits" of its input, and
    "stride", "padding", "dilation", "groups" of a conv.

    Args:
        path: of the file.
        steps: of a sample, for which every matrix must have a row.
    """
    with h5py.File(path, "r") as file:
        entries = [_whole(_tree(file["layer"][str(i)]), f"layer/{i}") for i in range(len(file["layer"]))]
        spikes = _is_binary(json.loads(_text(file["psu_deploy/metadata"]))["code"])
        layers = _with_synapse(entries)
    for k, layer in enumerate(layers):
        _check_rows(layer["neuron"], steps, f"the neuron of synapse {k}")
        layer["message_bits"] = 0 if spikes else MESSAGE_BITS
        spikes = layer["neuron"]["type"] != "RELAY"
    return _shape(entries[0]), layers


def _with_synapse(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    layers, flatten = [], False
    for i, entry in enumerate(entries[1:], start=1):
        if entry["type"] in ("dense", "conv"):
            layers.append(entry | {"flatten": flatten, "shape": _shape(entry)})
        elif entry["type"] != "flatten":
            raise ValueError(f"layer/{i} is of type {entry['type']!r}, expected dense, conv or flatten")
        flatten = entry["type"] == "flatten"
    return layers


def _check_rows(neuron: dict[str, Any], steps: int, where: str) -> None:
    """One row of columns for all steps, or one for each."""
    rows = len(neuron["columns"]) if "columns" in neuron else 1
    if 1 < rows < steps:
        raise ValueError(f"{where} is defined for {rows} steps, a sample has {steps}; give it at most {rows}")
    for name, part in neuron.items():
        if isinstance(part, dict):
            _check_rows(part, steps, f"{where}, {name},")


def _shape(entry: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in entry["shape"])


def _is_binary(code: dict[str, Any]) -> bool:
    return (code["unit"], code["low"], code["high"]) == (1, 0, 1)


def _text(dataset: Any) -> str:
    value = dataset[()]
    value = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _tree(group: Any) -> dict[str, Any]:
    """A group as a dictionary of texts, arrays and dictionaries."""
    tree: dict[str, Any] = {}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            tree[name] = _tree(item)
        else:
            tree[name] = item[()] if item.dtype.kind in "iuf" else _text(item)
    return tree


def _whole(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """The same in int64.

    Raises:
        ValueError: if something that must be a whole number is not.
    """
    result: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            result[name] = _whole(value, f"{where}/{name}")
        elif isinstance(value, str):
            result[name] = value
        elif value.dtype.kind == "f":
            raise ValueError(f"{where}/{name} has {value.dtype} numbers, expected whole ones; export the network again")
        else:
            result[name] = value.astype(np.int64)
    return result
