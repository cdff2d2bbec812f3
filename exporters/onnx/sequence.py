"""A whole sequence in one graph: the step graph as the body of a `Scan`, and taken out of it again.

    (x[0..T-1], state...) -> (y[0..T-1], state after the last step...)

Inside, what goes in and what comes out of a step has the name that it has outside with a suffix, as every value of a
graph and of its body must have its own. All else is the step graph, number for number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import AttributeProto, helper

from psu_deploy.exporters.onnx.vocabulary import nodes_of
from psu_deploy.machine.schedule import INPUT

TIME = "time"
"""Name of the dynamic axis, the first one of x and of every output."""

_SUFFIX = ".t"


class NoSequenceError(ValueError):
    """A graph is not one Scan over a step; the message says why."""


def as_sequence(step: onnx.ModelProto) -> onnx.ModelProto:
    """A model of one step as one of a sequence; weights stay outside of the body."""
    model = onnx.ModelProto()
    model.CopyFrom(step)
    graph, body = model.graph, onnx.GraphProto()
    body.CopyFrom(step.graph)
    _scan_order(body)
    del body.initializer[:], graph.node[:], graph.value_info[:]
    ins, outs = ([value.name for value in values] for values in (body.input, body.output))
    graph.node.append(
        helper.make_node("Scan", ins, outs, name="sequence", body=_renamed(body, _inner(step.graph)), num_scan_inputs=1)
    )
    for value in (graph.input[0], *list(graph.output)[: len(outs) - len(ins) + 1]):  # all else is state
        _with_time(value)
    return model


def step_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model of one step that `as_sequence` made a sequence of.

    Raises:
        NoSequenceError: if it did not make this one.
    """
    graph = model.graph
    scan = scan_of(graph)
    (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
    pairs = [(scan.input, body.input), (scan.output, body.output)]
    if any(len(outer) != len(inner) for outer, inner in pairs):
        raise NoSequenceError("its Scan has other inputs and outputs than its body")
    states = len(scan.input) - 1
    given, taken = ([value.name for value in values] for values in (graph.input, graph.output))
    if [*scan.input] != [*given[1:], *given[:1]] or given[:1] != [INPUT]:
        raise NoSequenceError("its Scan does not read the input and all state")
    if [*scan.output] != [*taken[len(taken) - states :], *taken[: len(taken) - states]]:
        raise NoSequenceError("its Scan does not write the outputs and all state")
    outer_names = {i.name: o for outer, inner in pairs for o, i in zip(outer, inner, strict=True)}
    step = onnx.ModelProto()
    step.CopyFrom(model)
    step.graph.CopyFrom(_renamed(body, outer_names))
    step.graph.name = graph.name
    _graph_order(step.graph, states)
    step.graph.initializer.extend(graph.initializer)
    for outer, inner in ((graph.input, step.graph.input), (graph.output, step.graph.output)):
        _check_types(outer, inner, len(inner) - states)
    return step


def scan_of(graph: onnx.GraphProto) -> onnx.NodeProto:
    """The only node of the graph of a sequence."""
    nodes: list[onnx.NodeProto] = list(graph.node)
    if len(nodes) != 1 or nodes[0].op_type != "Scan" or nodes[0].domain:
        raise NoSequenceError("it is no single Scan")
    kinds = {attribute.name: attribute.type for attribute in nodes[0].attribute}
    if kinds != {"body": AttributeProto.GRAPH, "num_scan_inputs": AttributeProto.INT}:
        raise NoSequenceError("its Scan has other attributes than a body and the number of its inputs")
    (body,) = (attribute.g for attribute in nodes[0].attribute if attribute.name == "body")
    if any((body.initializer, body.sparse_initializer, graph.sparse_initializer, graph.quantization_annotation)):
        raise NoSequenceError("its weights are not where they are kept")
    if [attribute.i for attribute in nodes[0].attribute if attribute.name == "num_scan_inputs"] != [1]:
        raise NoSequenceError("its Scan runs over more than the input")
    return nodes[0]


def watched(model: onnx.ModelProto, values: Mapping[str, str]) -> list[str]:
    """Let a sequence give values of its body too, one row a step.

    Args:
        model: of a sequence, to be changed.
        values: as the step graph calls them -> as the graph is to call them.

    Returns:
        Names of all outputs.
    """
    scan = scan_of(model.graph)
    (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
    pairs = ((scan.input, body.input), (scan.output, body.output))
    inner_names = {o: i.name for outer, inner in pairs for o, i in zip(outer, inner, strict=True)}
    for name, given in values.items():
        body.node.append(helper.make_node("Identity", [inner_names.get(name, name)], [f"{given}{_SUFFIX}"]))
        body.output.append(helper.make_tensor_value_info(f"{given}{_SUFFIX}", onnx.TensorProto.FLOAT, None))
        scan.output.append(given)
        model.graph.output.append(helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, None))
    return [output.name for output in model.graph.output]


def _scan_order(body: onnx.GraphProto) -> None:
    """State before what there is one of in every step."""
    x, *states = map(_copy, body.input)
    count = len(body.output) - len(states)
    outputs = [*map(_copy, body.output)]
    del body.input[:], body.output[:]
    body.input.extend([*states, x])
    body.output.extend([*outputs[count:], *outputs[:count]])


def _graph_order(graph: onnx.GraphProto, states: int) -> None:
    """The other way."""
    inputs, outputs = [*map(_copy, graph.input)], [*map(_copy, graph.output)]
    del graph.input[:], graph.output[:]
    graph.input.extend([*inputs[states:], *inputs[:states]])
    graph.output.extend([*outputs[states:], *outputs[:states]])


def _inner(step: onnx.GraphProto) -> dict[str, str]:
    """What goes in and out -> its name in the body, which no other value has."""
    taken = {*_names(step)}
    ends = [value.name for value in (*step.input, *step.output)]
    suffix = _SUFFIX
    while any(f"{name}{suffix}" in taken for name in ends):
        suffix += "'"
    return {name: f"{name}{suffix}" for name in ends}


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*graph.input, *graph.initializer))
    for node in nodes_of(graph):
        yield from node.output


def _renamed(graph: onnx.GraphProto, names: Mapping[str, str]) -> onnx.GraphProto:
    """A copy with other names for what goes in and comes out, which branches read but do not write."""
    result = onnx.GraphProto()
    result.CopyFrom(graph)
    for value in (*result.input, *result.output, *result.value_info):
        value.name = names.get(value.name, value.name)
    for node in nodes_of(result):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return result


def _check_types(outer: list[onnx.ValueInfoProto], inner: list[onnx.ValueInfoProto], scanned: int) -> None:
    for index, (value, step) in enumerate(zip(outer, inner, strict=True)):
        wanted = _copy(step)
        if index < scanned:
            _with_time(wanted)
        if value.type != wanted.type:
            raise NoSequenceError(f"{value.name!r} is of another type or shape than in one step")


def _with_time(value: onnx.ValueInfoProto) -> None:
    shape = value.type.tensor_type.shape
    axes = [*shape.dim]
    del shape.dim[:]
    shape.dim.add(dim_param=TIME)
    shape.dim.extend(axes)


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    return result
