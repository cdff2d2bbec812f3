"""An integer network as files hold it: a tree of names, whose leaves are whole numbers or the name of a kind.

    0                type "input", shape
    i                type "flatten", or
    i                type "dense" or "conv", shape, weight (int8), bias; conv: stride, padding, dilation, groups
    i/neuron         type "CUBA" as lava-dl has it, or ours: "PSU", "LIF", "RELAY", with their numbers

The names are those of lava-dl's netx, where it has any.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from psu_deploy.exporters.integers.fixed_point import UNITY
from psu_deploy.exporters.integers.network import Conv, Cuba, IntegerLayer, IntegerNetwork, Table
from psu_deploy.numerics.sigmoid_table import knots

WEIGHT_MAX = 127

_IN_FILE = {"fraction_bits": "up"}
"""Field -> what files call it, where that is something else."""


def tree_of_network(network: IntegerNetwork) -> dict[str, Any]:
    """Place in the chain -> what is there: dictionaries, texts, int8 and int32 arrays."""
    tree: dict[str, Any] = {"0": {"type": "input", "shape": np.array(network.input_shape, np.int32)}}
    for layer in network.layers:
        if layer.flatten:
            tree[str(len(tree))] = {"type": "flatten"}
        tree[str(len(tree))] = _layer(layer)
    return tree


def _layer(layer: IntegerLayer) -> dict[str, Any]:
    synapse = layer.synapse
    group: dict[str, Any] = {
        "type": "conv" if isinstance(synapse, Conv) else "dense",
        "shape": np.array(layer.shape, np.int32),
        "weight": synapse.weight.astype(np.int8),
        "bias": synapse.bias.astype(np.int32),
    }
    if isinstance(synapse, Conv):
        for name in ("stride", "padding", "dilation"):
            group[name] = np.array(getattr(synapse, name), np.int32)
        group["groups"] = np.int32(synapse.groups)
    numbers = _cuba(layer.neuron) if isinstance(layer.neuron, Cuba) else _fields(layer.neuron)
    return group | {"neuron": {"type": type(layer.neuron).__name__.upper(), **numbers}}


def _cuba(neuron: Cuba) -> dict[str, Any]:
    """With lava-dl's names; what it counts as decay is what is lost, not what is kept."""
    values = {"iDecay": UNITY, "vDecay": UNITY - neuron.decay, "vThMant": neuron.threshold}
    return {name: np.int32(value) for name, value in (values | {"refDelay": 1, "gradedSpike": 0}).items()}


def _fields(owner: Any) -> dict[str, Any]:
    """A dataclass: numbers as int32, parts as trees with their kind, what is None left out."""
    found: dict[str, Any] = {}
    for field in fields(owner):
        value = getattr(owner, field.name)
        if is_dataclass(value):
            found[field.name] = {"kind": type(value).__name__, **_fields(value)}
        elif value is not None:
            found[_IN_FILE.get(field.name, field.name)] = np.asarray(value, np.int32)
    if isinstance(owner, Table):
        found["knots"] = knots().astype(np.int32)
    return found
