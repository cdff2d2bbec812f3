"""Whole numbers as a file holds them, back into an integer network: strictly, with a word for what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from psu_deploy.exporters.integers.bounds import fits, neuron_intervals, sent_interval, synapse_interval
from psu_deploy.exporters.integers.fixed_point import STATE_MAX, UNITY
from psu_deploy.exporters.integers.folding import conv_size
from psu_deploy.exporters.integers.network import (
    LIF,
    PSU,
    Conv,
    Cuba,
    Dense,
    Estimator,
    InputCode,
    IntegerLayer,
    IntegerNetwork,
    Integers,
    Levels,
    Neuron,
    Operator,
    Raw,
    Relay,
    Reset,
    Sums,
    Table,
    Traces,
    operators_of,
)
from psu_deploy.exporters.integers.tree import WEIGHT_MAX
from psu_deploy.machine.ops.fields import Shape

Tree = Mapping[str, Any]


class MalformedError(Exception):
    """What does not fit, and where in the file."""


def network_of(layers: Tree, metadata: Tree) -> IntegerNetwork:
    """The network of a tree as `tree.tree_of_network` makes it, and of the metadata beside it.

    Raises:
        MalformedError, ValueError, KeyError, TypeError, AttributeError, IndexError: if it is anything else.
    """
    if sorted(layers, key=int) != [str(i) for i in range(len(layers))] or _text(layers["0"], "type") != "input":
        raise MalformedError(f"the layers must be 0 (an input), 1, 2, ...; found {sorted(layers)}")
    shape = input_shape = tuple(_numbers(layers["0"], "shape", 1, 2**31).tolist())
    found: list[IntegerLayer] = []
    flatten = False
    for index in range(1, len(layers)):
        kind = _text(layers[str(index)], "type")
        if kind == "flatten":
            flatten = True
            continue
        layer = _layer(layers[str(index)], metadata["layers"][len(found)], kind, shape, flatten)
        found.append(layer)
        shape, flatten = layer.shape, False
    if len(found) != len(metadata["layers"]) or not found:
        raise MalformedError(f"{len(found)} layers of weights, the metadata name {len(metadata['layers'])}")
    sizes = {layer.name: prod(layer.shape) for layer in found}
    neurons = {name: prod(features) for name, features in metadata["neurons"].items()}
    if prod(metadata["input_shape"]) != prod(input_shape) or prod(metadata["output_shape"]) != prod(shape):
        raise MalformedError("the metadata tell of another input or output than the layers have")
    if not neurons.items() <= sizes.items():
        raise MalformedError(f"the metadata tell of neurons {neurons}, the layers are {sizes}")
    code = InputCode(**metadata["code"])
    units = np.asarray(metadata["units"], np.float64)
    if len(units) not in (1, shape[0]):
        raise MalformedError(f"{len(units)} units of the output for {shape[0]} channels")
    network = IntegerNetwork(tuple(found), input_shape, code, metadata["horizon"], units)
    _check_steps(network)
    _check_bounds(network)
    return network


def _check_steps(network: IntegerNetwork) -> None:
    """Every step of the horizon must have its row in every matrix."""
    parts = [part for layer in network.layers for part in operators_of(layer.neuron).values()]
    rows = [len(part.columns) for part in parts if isinstance(part, Sums) and len(part.columns) > 1]
    if rows and (network.horizon is None or network.horizon > min(rows)):
        raise MalformedError(f"a horizon of {network.horizon} steps, but a matrix of {min(rows)}")


def _check_bounds(network: IntegerNetwork) -> None:
    """No state may leave 24 bits: the fixed point of a file that somebody changed must still be what it says."""
    low, high = float(network.code.low), float(network.code.high)
    for layer in network.layers:
        a = synapse_interval(layer.synapse, low, high)
        intervals = {"a": a, **neuron_intervals(layer.neuron, a, network.horizon)}
        if not fits(intervals):
            raise MalformedError(f"layer {layer.name!r}: its states could leave 24 bits")
        low, high = sent_interval(layer.neuron, intervals)


def _layer(tree: Tree, name: str, kind: str, given: Shape, flatten: bool) -> IntegerLayer:
    if kind not in ("dense", "conv"):
        raise MalformedError(f"layer {name!r} is of type {kind!r}; netx would pass over it in silence")
    shape = tuple(_numbers(tree, "shape", 1, 2**31).tolist())
    weight = _numbers(tree, "weight", -WEIGHT_MAX, WEIGHT_MAX)
    bias = _numbers(tree, "bias", -STATE_MAX, STATE_MAX, (len(weight),))
    synapse = Dense(weight, bias) if kind == "dense" else _conv(tree, weight, bias)
    _check_shapes(name, synapse, given, shape, flatten)
    return IntegerLayer(name, synapse, _neuron(tree["neuron"], shape[0]), shape, flatten)


def _conv(tree: Tree, weight: Integers, bias: Integers) -> Conv:
    if weight.ndim != 4:
        raise MalformedError(f"weights of a convolution have 4 axes, found {weight.shape}")
    least = {"stride": 1, "padding": 0, "dilation": 1}
    numbers = [_numbers(tree, key, smallest, 2**20, (2,)) for key, smallest in least.items()]
    stride, padding, dilation = ((int(n[0]), int(n[1])) for n in numbers)
    return Conv(weight, bias, stride, padding, dilation, _number(tree, "groups", 1, len(weight)))


def _check_shapes(name: str, synapse: Dense | Conv, given: Shape, shape: Shape, flatten: bool) -> None:
    expected: tuple[int, ...]
    if isinstance(synapse, Dense):
        fine = synapse.weight.ndim == 2 and synapse.weight.shape[1] == prod(given) and (len(given) == 1 or flatten)
        expected = (len(synapse.weight),)
    else:
        fine = len(given) == 3 and not flatten and synapse.weight.shape[1] * synapse.groups == given[0]
        fine = fine and len(synapse.weight) % synapse.groups == 0
        expected = (len(synapse.weight), *conv_size(synapse, given)) if fine else ()
    if not fine or shape != expected:
        raise MalformedError(f"layer {name!r}: weights {synapse.weight.shape} do not lead from {given} to {shape}")


def _neuron(tree: Tree, channels: int) -> Neuron:
    kind = _text(tree, "type")
    match kind:
        case "CUBA":
            if _number(tree, "iDecay", 0, UNITY) != UNITY:
                raise MalformedError("iDecay must be 4096: a current that forgets at once")
            return Cuba(UNITY - _number(tree, "vDecay", 0, UNITY), _number(tree, "vThMant", 0, 2**17 - 1))
        case "RELAY":
            operator = _operator(tree["operator"], channels) if "operator" in tree else None
            return Relay(_fraction_bits(tree), operator, _fraction(tree, channels))
        case "LIF":
            return _lif(tree, channels)
        case "PSU":
            return _psu(tree, channels)
    raise MalformedError(f"neurons of type {kind!r}; this release knows PSU, LIF, RELAY and CUBA")


def _lif(tree: Tree, channels: int) -> LIF:
    threshold, subtract = (_channels(tree, key, channels, -STATE_MAX, STATE_MAX) for key in ("threshold", "subtract"))
    hard = bool(_number(tree, "hard", 0, 1))
    return LIF(
        _fraction_bits(tree), _number(tree, "decay", 0, UNITY), threshold, subtract, hard, _fraction(tree, channels)
    )


def _psu(tree: Tree, channels: int) -> PSU:
    return PSU(
        _fraction_bits(tree),
        _operator(tree["integrate"], channels),
        _operator(tree["estimate"], channels) if "estimate" in tree else None,
        _estimator(tree["estimator"], channels),
        _reset(tree["reset"], channels) if "reset" in tree else None,
        _channels(tree, "threshold", channels, -STATE_MAX, STATE_MAX),
        _fraction(tree, channels),
    )


def _operator(tree: Tree, channels: int) -> Operator:
    kind = _text(tree, "kind")
    if kind == "Traces":
        decays = _numbers(tree, "decays", 0, UNITY)
        gains = _numbers(tree, "gains", -UNITY, UNITY, decays.shape)
        return Traces(decays, gains, _channels(tree, "bias", channels, -STATE_MAX, STATE_MAX))
    if kind != "Sums":
        raise MalformedError(f"an operator of kind {kind!r}")
    columns = _numbers(tree, "columns", -UNITY, UNITY)
    bias = _numbers(tree, "bias", -STATE_MAX, STATE_MAX)
    if columns.ndim != 2 or bias.ndim != 2 or len(bias) != len(columns) or bias.shape[1] not in (1, channels):
        raise MalformedError(f"columns {columns.shape} and bias {bias.shape} of an operator do not fit")
    return Sums(columns, bias)


def _estimator(tree: Tree, channels: int) -> Estimator:
    kind = _text(tree, "kind")
    if kind == "Table":
        shift = _channels(tree, "shift", channels, 0, 30)
        return Table(_channels(tree, "coefficient", channels, -2 * UNITY, 2 * UNITY), shift)
    if kind == "Levels":
        thresholds = _numbers(tree, "thresholds", -STATE_MAX, STATE_MAX)
        if thresholds.ndim != 2 or thresholds.shape[1] not in (1, channels):
            raise MalformedError(f"thresholds {thresholds.shape} of a staircase for {channels} channels")
        return Levels(thresholds, _numbers(tree, "values", -STATE_MAX, STATE_MAX, (len(thresholds) + 1,)))
    if kind != "Raw":
        raise MalformedError(f"an estimator of kind {kind!r}")
    return Raw()


def _reset(tree: Tree, channels: int) -> Reset:
    coefficient = _channels(tree, "coefficient", channels, -UNITY, UNITY)
    shift = _channels(tree, "shift", channels, 0, 30)
    if "operator" not in tree:
        return Reset(coefficient, shift, _number(tree, "decay", 0, UNITY))
    operator = _operator(tree["operator"], channels)
    if not isinstance(operator, Sums) or operator.columns[:, 0].any():
        raise MalformedError("a reset that is not strictly causal")
    return Reset(coefficient, shift, None, operator)


def _fraction_bits(tree: Tree) -> int:
    return _number(tree, "up", 0, 8)


def _fraction(tree: Tree, channels: int) -> Integers:
    """Less than a unit of the weights."""
    return _channels(tree, "fraction", channels, 0, 2 ** _fraction_bits(tree) - 1)


def _number(tree: Tree, key: str, least: int, most: int) -> int:
    return int(_numbers(tree, key, least, most, ()))


def _channels(tree: Tree, key: str, channels: int, least: int, most: int) -> Integers:
    values = _numbers(tree, key, least, most)
    if values.shape not in ((1,), (channels,)):
        raise MalformedError(f"{key!r} has shape {values.shape}, expected one number or {channels}")
    return values


def _numbers(tree: Tree, key: str, least: int, most: int, shape: Shape | None = None) -> Integers:
    """Whole numbers within limits; a float is refused, because netx would cut it and Lava hang on it."""
    values = np.asarray(tree[key])
    if values.dtype.kind not in "iu":
        raise MalformedError(f"{key!r} holds {values.dtype}, expected whole numbers")
    if shape is not None and values.shape != shape:
        raise MalformedError(f"{key!r} has shape {values.shape}, expected {shape}")
    if not values.size or values.min() < least or values.max() > most:
        raise MalformedError(f"{key!r} must be whole numbers in {least}..{most}")
    return values.astype(np.int64)


def _text(tree: Tree, key: str) -> str:
    value = np.ravel(tree[key])
    return str(value[0]) if len(value) == 1 else ""
