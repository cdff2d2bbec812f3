"""Holds a step graph against what exporting a machine writes: emitted again and compared, down to every number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.emit import build
from psu_deploy.exporters.onnx.metadata import facts_of
from psu_deploy.exporters.onnx.target import PREFIX
from psu_deploy.machine import StateMachine, ops
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version, metadata_difference

_OF_THE_WRITER = {"versions", "machine_hash"}
"""Metadata that say who wrote the file from what: not what it computes."""


def structure_of(model: onnx.ModelProto, decisions: Mapping[str, Decision], machine: StateMachine) -> Structure:
    """How a file stands against an export of a machine.

    Args:
        model: the file.
        decisions: neuron layer -> how it decides, as read off the graph; see `decisions_of`.
        machine: what it should be an export of.
    """
    wrong = first_of(_thresholds(decisions, machine))
    if wrong.differences:
        return wrong
    properties = {entry.key.removeprefix(PREFIX): entry.value for entry in model.metadata_props}
    events, weights = (json.loads(properties.get(*key)) for key in (("events", "{}"), ("weights", '"float32"')))
    facts = facts_of(machine, weights)
    try:
        written, earlier = (build(machine, facts, events, subnormals=kept) for kept in (False, True))
    except UnsupportedModelError as error:
        return Structure((f"this network cannot be exported to ONNX: {error.problems[0].reason}",))
    written_by = json.loads(properties["versions"]).get("psu-deploy")
    found = first_of(_differences(model, written, properties))
    if found.differences and not any(_differences(model, earlier, properties)):
        found = Structure()  # the rounding bound holds whether they count or not
    return judged_by_version(found, written_by, version("psu-deploy"))


def _thresholds(decisions: Mapping[str, Decision], machine: StateMachine) -> Iterator[str]:
    """Decisions can be held against the machine whoever wrote the file."""
    for node in machine.nodes:
        found = decisions.get(node.name)
        if found is None or not isinstance(node.layer, ops.Neuron):
            continue
        threshold, fire_on = getattr(node.layer, "threshold", 0.0), getattr(node.layer, "fire_on", ">")
        if np.float32(threshold) != np.float32(found.threshold) or fire_on != found.fire_on:
            yield (
                f"layer {node.name!r} fires at {found.fire_on} {found.threshold!r}, exporting this network gives "
                f"{fire_on} {float(np.float32(threshold))!r}"
            )


def _differences(model: onnx.ModelProto, expected: onnx.ModelProto, properties: Mapping[str, str]) -> Iterator[str]:
    opsets = [{(entry.domain, entry.version) for entry in m.opset_import} for m in (model, expected)]
    if opsets[0] != opsets[1]:
        yield f"it uses the operator sets {sorted(opsets[0])}, exporting this network {sorted(opsets[1])}"
    yield from _graph_differences(model.graph, expected.graph)
    for entry in expected.metadata_props:
        key = entry.key.removeprefix(PREFIX)
        if key not in _OF_THE_WRITER:
            values = [json.loads(text) for text in (properties.get(key, "null"), entry.value)]
            yield from metadata_difference(key, *values)


def _graph_differences(graph: onnx.GraphProto, expected: onnx.GraphProto) -> Iterator[str]:
    """Nodes before numbers: layers share numbers, so one that is missing has the name of another layer at times."""
    for node, wanted in zip_longest(graph.node, expected.node):
        if node is None or wanted is None:
            there, what = (wanted, "is missing") if node is None else (node, "should not be there")
            yield f"node {there.output[0]!r} ({there.op_type}) {what}"
            break
        yield from _node_differences(node, wanted)
    yield from _constant_differences(graph, expected)
    for what in ("input", "output"):
        names = [[value.name for value in getattr(g, what)] for g in (graph, expected)]
        if names[0] != names[1]:
            yield f"its {what}s are {names[0]}, exporting this network gives {names[1]}"


def _constant_differences(graph: onnx.GraphProto, expected: onnx.GraphProto) -> Iterator[str]:
    found = {constant.name: constant for constant in graph.initializer}
    if len(found) != len(graph.initializer) or graph.sparse_initializer:
        yield "it holds sparse constants, or two of one name"
    for wanted in expected.initializer:
        if wanted.name not in found:
            yield f"constant {wanted.name!r} is missing"
        else:
            yield from _number_differences(wanted.name, found.pop(wanted.name), wanted)
    for name in found:
        yield f"constant {name!r} should not be there"


def _number_differences(name: str, constant: onnx.TensorProto, expected: onnx.TensorProto) -> Iterator[str]:
    values, wanted = numpy_helper.to_array(constant), numpy_helper.to_array(expected)
    if values.dtype != wanted.dtype or values.shape != wanted.shape:
        is_, should = (f"{v.dtype} of shape {v.shape}" for v in (values, wanted))
        yield f"constant {name!r} is {is_}, exporting this network gives {should}"
        return
    if values.tobytes() != wanted.tobytes():
        # Compared as bytes: -0.0 is not 0.0, and a NaN is found where it is.
        size = values.dtype.itemsize
        apart = np.frombuffer(values.tobytes(), f"V{size}") != np.frombuffer(wanted.tobytes(), f"V{size}")
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(apart)), values.shape))
        where = f" at {at}" if at else ""
        count = f", {int(apart.sum()):,} numbers differ" if apart.sum() > 1 else ""
        is_, should = (v[at].item() for v in (values, wanted))
        yield f"constant {name!r} is {is_!r}{where}, exporting this network gives {should!r}{count}"


def _node_differences(node: onnx.NodeProto, expected: onnx.NodeProto) -> Iterator[str]:
    name = expected.output[0]  # that of the layer, and what of it
    for what in ("op_type", "domain", "input", "output"):
        is_, should = (getattr(n, what) for n in (node, expected))
        if is_ != should:
            is_, should = (value if isinstance(value, str) else list(value) for value in (is_, should))
            yield f"node {name!r}: its {what} is {is_!r}, exporting this network gives {should!r}"
    attributes = [{attribute.name: attribute for attribute in n.attribute} for n in (node, expected)]
    if attributes[0].keys() != attributes[1].keys():
        is_, should = map(sorted, attributes)
        yield f"node {name!r} has the attributes {is_}, exporting this network gives {should}"
        return
    for key, wanted in attributes[1].items():
        yield from _attribute_differences(name, attributes[0][key], wanted)


def _attribute_differences(node: str, attribute: onnx.AttributeProto, expected: onnx.AttributeProto) -> Iterator[str]:
    if attribute.type == expected.type == onnx.AttributeProto.GRAPH:
        yield from _graph_differences(attribute.g, expected.g)
        return
    if attribute.SerializeToString(deterministic=True) != expected.SerializeToString(deterministic=True):
        is_, should = (_plain(a) for a in (attribute, expected))
        yield f"node {node!r}: {expected.name} is {is_}, exporting this network gives {should}"


def _plain(attribute: onnx.AttributeProto) -> Any:
    return onnx.helper.get_attribute_value(attribute)
