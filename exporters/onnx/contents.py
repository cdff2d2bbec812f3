"""What a step graph holds, for people: a line for every neuron layer, and for what else computes along the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.metadata import OnnxHeader
from psu_deploy.runtime.contents import Contents, LayerLine, Tensor

Shape = tuple[int, ...]


def contents_of(model: onnx.ModelProto, header: OnnxHeader, decisions: Mapping[str, Decision]) -> Contents:
    """What a file tells: a graph knows values and operators, and its metadata which of them are a neuron layer.

    Values are called after the layer that they belong to, `layer` or `layer.role`. So a layer with state is a line,
    with its operators; of any other, every operator is. A graph without the shapes of its inner values tells less.
    """
    shapes = dict(_shapes(model.graph))
    found: dict[str, list[str]] = {}
    for node in _nodes(model.graph):
        if any(name in shapes for name in node.output[:1]):  # numbers without a batch, such as counters, are no layers
            layer = _layer_of(node, header)
            found.setdefault(layer, []).append(node.op_type)
            for end in header.ends:
                if node.output[0] == end.value:
                    shapes.setdefault(layer, end.shape)
    return Contents(
        inputs=(Tensor(header.input.name, header.input.shape),),
        outputs=tuple(Tensor(end.value, end.shape) for end in header.ends),
        layers=tuple(_line(name, operators, header, decisions, shapes) for name, operators in found.items()),
        state=tuple(Tensor(state.name, state.shape, state.dtype) for state in header.states),
    )


def _line(
    name: str,
    operators: list[str],
    header: OnnxHeader,
    decisions: Mapping[str, Decision],
    shapes: Mapping[str, Shape],
) -> LayerLine:
    if name in header.neurons:
        decision = decisions[name]
        kind = f"neuron, fires at {decision.fire_on} {decision.threshold:g}"
        return LayerLine(name, kind, shapes.get(header.neurons[name].spikes, shapes.get(decision.value)))
    if name in header.events:
        return LayerLine(name, f"Gemm, the rows of up to {header.events[name]} spikes alone", shapes.get(name))
    return LayerLine(name, ", ".join(dict.fromkeys(operators)), shapes.get(name))


def _layer_of(node: onnx.NodeProto, header: OnnxHeader) -> str:
    """The layer that a node computes a part of; a node that is alone goes by the value that it computes."""
    output = str(node.output[0])
    kept = {state.name.rpartition(".")[0] for state in header.states} - {""}
    for layer in sorted({*header.neurons, *kept, *header.events}, key=len, reverse=True):
        if output == layer or output.startswith(f"{layer}."):
            return layer
    if output in {end.value for end in header.ends}:  # not called after its layer; whose weights, or state, tell
        roles = (".weight", ".wide_weight", ".are_few")
        weights = (name.rpartition(".")[0] for name in node.input if name.endswith(roles))
        states = (
            layer for layer in kept - header.neurons.keys() for name in node.input if name.startswith(f"{layer}.")
        )
        return next(weights, None) or next(states, output)
    return output


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All of them, those of branches before the node that they are branches of."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)
        yield node


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    """Value -> features, of every value that has a batch; a graph may leave them out."""
    for value in (*graph.value_info, *graph.output):
        batch, *features = value.type.tensor_type.shape.dim or [None]
        if batch is not None and not batch.dim_value:  # not always by its name: shape inference loses sight of it
            yield value.name, tuple(axis.dim_value for axis in features)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _shapes(attribute.g)
