"""How every neuron layer of a step graph decides, read off the graph itself: what is compared, with what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx
from onnx import numpy_helper

from psu_deploy.exporters.onnx.metadata import NeuronNames

_COMPARISONS = {"Greater": ">", "GreaterOrEqual": ">="}


class Decision(NamedTuple):
    """`S = 1 if value >= threshold (or >) else 0`.

    Attributes:
        value: name of what is compared: V - R, or the whole margin.
        threshold: as the file has it, a float32 number.
        fire_on: ">=" or ">".
    """

    value: str
    threshold: float
    fire_on: str


class UndecidedError(Exception):
    """What the metadata call spikes is not the outcome of a comparison with a constant; the message says where."""


def decisions_of(graph: onnx.GraphProto, neurons: Mapping[str, NeuronNames]) -> dict[str, Decision]:
    """Neuron layer -> its decision.

    Args:
        graph: of one step.
        neurons: as the metadata have them: layer -> names of its values.

    Raises:
        UndecidedError: if the spikes of a layer come about in another way than we write it.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    return {layer: _decision(layer, names.spikes, makers, constants) for layer, names in neurons.items()}


def _decision(
    layer: str, spikes: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> Decision:
    """Back from the spikes: Cast <- (And <-) Greater or GreaterOrEqual <- value, threshold."""
    node = makers.get(spikes)
    if node is not None and node.op_type == "Cast":
        node = makers.get(node.input[0])
    if node is not None and node.op_type == "And":  # a layer that starts late is silent before
        node = makers.get(node.input[0])
    if node is None or node.op_type not in _COMPARISONS or node.input[1] not in constants:
        raise UndecidedError(
            f"layer {layer!r}: {spikes!r} is not the outcome of a comparison with a constant threshold"
        )
    threshold = numpy_helper.to_array(constants[node.input[1]])
    if threshold.size != 1:
        raise UndecidedError(f"layer {layer!r} has {threshold.size} thresholds, expected one")
    return Decision(node.input[0], float(threshold.reshape(())), _COMPARISONS[node.op_type])
