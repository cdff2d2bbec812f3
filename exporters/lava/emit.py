"""Writes an integer network as HDF5 in lava-dl's netx dialect.

    /layer/0                type "input", shape
    /layer/i                type "flatten", or
    /layer/i                type "dense" or "conv", shape, weight (int8), bias; conv: stride, padding, dilation, groups
    /layer/i/neuron         type "CUBA" as lava-dl has it, or ours: "PSU", "LIF", "RELAY", with their numbers
    /psu_deploy/metadata    JSON

Earlier releases wrote the numbers before rounding to /psu_deploy/real as well.
Only layer types that netx knows: it passes over others in silence. A neuron type that it does not know, it refuses.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from psu_deploy.errors import require
from psu_deploy.exporters.integers.fixed_point import UNITY
from psu_deploy.exporters.integers.network import Conv, Cuba, IntegerLayer, IntegerNetwork, Table
from psu_deploy.exporters.lava.target import GROUP
from psu_deploy.numerics.sigmoid_table import knots


def as_hdf5(network: IntegerNetwork, metadata: Mapping[str, Any]) -> memoryview:
    """What is in the file of a network with its metadata.

    Raises:
        MissingExtraError: if h5py is not installed.
    """
    h5py = require("h5py", extra="lava")
    buffer = io.BytesIO()  # where the disk is full, HDF5 ends the process
    with h5py.File(buffer, "w") as file:
        layers = file.create_group("layer")
        _write_text(first := layers.create_group("0"), "type", "input")
        first["shape"] = np.array(network.input_shape, np.int32)
        for layer in network.layers:
            if layer.flatten:
                _write_text(layers.create_group(str(len(layers))), "type", "flatten")
            _write_layer(layers.create_group(str(len(layers))), layer)
        ours = file.create_group(GROUP)
        ours["metadata"] = json.dumps(dict(metadata), indent=1)
    return buffer.getbuffer()


def _write_layer(group: Any, layer: IntegerLayer) -> None:
    synapse = layer.synapse
    _write_text(group, "type", "conv" if isinstance(synapse, Conv) else "dense")
    group["shape"] = np.array(layer.shape, np.int32)
    group["weight"] = synapse.weight.astype(np.int8)
    group["bias"] = synapse.bias.astype(np.int32)
    if isinstance(synapse, Conv):
        for name in ("stride", "padding", "dilation"):
            group[name] = np.array(getattr(synapse, name), np.int32)
        group["groups"] = np.int32(synapse.groups)
    neuron = group.create_group("neuron")
    _write_text(neuron, "type", type(layer.neuron).__name__.upper())
    if isinstance(layer.neuron, Cuba):
        _write_cuba(neuron, layer.neuron)
    else:
        _write_fields(neuron, layer.neuron)


def _write_cuba(group: Any, neuron: Cuba) -> None:
    """With lava-dl's names; what it counts as decay is what is lost, not what is kept."""
    values = {"iDecay": UNITY, "vDecay": UNITY - neuron.decay, "vThMant": neuron.threshold}
    for name, value in (values | {"refDelay": 1, "gradedSpike": 0}).items():
        group[name] = np.int32(value)


_IN_FILE = {"fraction_bits": "up"}
"""Field -> what the file calls it, where that is something else."""


def _write_fields(group: Any, owner: Any) -> None:
    """A dataclass as a group: numbers as int32, parts as groups with their kind, what is None left out."""
    for field in fields(owner):
        value = getattr(owner, field.name)
        if is_dataclass(value):
            part = group.create_group(field.name)
            _write_text(part, "kind", type(value).__name__)
            _write_fields(part, value)
        elif value is not None:
            group[_IN_FILE.get(field.name, field.name)] = np.asarray(value, np.int32)
    if isinstance(owner, Table):
        group["knots"] = knots().astype(np.int32)


def _write_text(group: Any, name: str, value: str) -> None:
    group[name] = np.array([value.encode()], "S10")
