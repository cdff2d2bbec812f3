"""What one sample takes on its way through an ONNX graph: shapes are worked out anew, none is believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.exporters.onnx.vocabulary import nodes_of
from psu_deploy.files.limits import check_memory
from psu_deploy.machine.ops.fields import Shape

_SMALL = 64
"""Numbers of a constant that may decide over shapes: padding, axes, a new shape."""

_BYTES = 8
"""Of a number: some are int64."""

_UNFOLDED = {"Conv", "ConvTranspose"}

_ONE = "psu_deploy.one sample"

_COPY = "psu_deploy.copy of "


def check_size(path: Path, model: onnx.ModelProto, size: int) -> None:
    """Raise `ArtifactError` if a value has no shape before it runs, or one sample takes more memory than it may.

    Args:
        path: for messages.
        model: of operators we write.
        size: of the file, bytes.
    """
    skeleton = _skeleton(model)
    _find_all_places(skeleton.graph)
    counted = _count_one_sample(skeleton.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True).graph
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{path} is damaged: its graph does not fit together: {reason}") from error
    shapes = {value.name: _shape(value) for value in (*inferred.input, *inferred.output, *_values(inferred))}
    shapes |= {weight.name: tuple(weight.dims) for weight in skeleton.graph.initializer}
    unknown = [name for node in nodes_of(inferred) for name in node.output if shapes.get(name) is None]
    unknown += [name for name in counted if (shapes.get(name) or (0,))[0] != 1]
    if unknown:
        raise ArtifactError(f"{path} is damaged: the shape of {unknown[0]!r} in it is known only while it runs")
    numbers = sum(prod(shape) for shape in shapes.values() if shape is not None)
    room = max((_unfolded(node, shapes) for node in nodes_of(inferred) if node.op_type in _UNFOLDED), default=0)
    check_memory(_BYTES * (numbers + room), size, f"{path}: one sample of this network, state included,")


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for one sample, without weights and without what it says of shapes inside."""
    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, given = result.graph, model.graph
    graph.name = given.name
    graph.node.extend(given.node)
    for node in nodes_of(graph):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                del attribute.g.value_info[:]
                for value in attribute.g.output:
                    value.ClearField("type")
                _give_constants(attribute.g, given.initializer)
    graph.input.extend(given.input)
    graph.output.extend(given.output)
    for value in (*graph.input, *graph.output):
        _one_sample(value)
    for weight in given.initializer:
        if prod(weight.dims) <= _SMALL:
            graph.initializer.append(weight)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    return result


def _give_constants(branch: onnx.GraphProto, constants: Iterable[onnx.TensorProto]) -> None:
    """Copies of the small whole numbers a branch reads, which inference does not look for outside of it."""
    small = {c.name: c for c in constants if c.data_type == TensorProto.INT64 and prod(c.dims) <= _SMALL}
    read = {name for node in branch.node for name in node.input if name in small}
    for node in branch.node:
        node.input[:] = [f"{_COPY}{name}" if name in read else name for name in node.input]
    for name in sorted(read):
        branch.initializer.add().CopyFrom(small[name])
        branch.initializer[-1].name = f"{_COPY}{name}"


def _one_sample(value: onnx.ValueInfoProto) -> None:
    for axis in value.type.tensor_type.shape.dim:
        if axis.dim_param == TARGET.batch:
            axis.dim_value = 1


def _count_one_sample(graph: onnx.GraphProto) -> list[str]:
    """Let every Range that counts the samples of a batch count to one, which inference cannot see by itself.

    Returns:
        Names of the values whose first axis was taken for the batch.
    """
    made = {name: node for node in nodes_of(graph) for name in node.output}
    counted = []
    for node in nodes_of(graph):
        squeeze = made.get(node.input[1]) if node.op_type == "Range" and len(node.input) == 3 else None
        shape = made.get(squeeze.input[0]) if squeeze is not None and squeeze.op_type == "Squeeze" else None
        if shape is not None and {a.name: a.i for a in shape.attribute} == {"start": 0, "end": 1}:
            counted.append(shape.input[0])
            node.input[1] = _ONE
    graph.initializer.append(onnx.helper.make_tensor(_ONE, onnx.TensorProto.INT64, [], [1]))
    return counted


def _find_all_places(graph: onnx.GraphProto) -> None:
    """Let every NonZero find a place for each number, the most there can be; ours look along one axis."""
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _find_all_places(attribute.g)
        if node.op_type == "NonZero":
            numbers = f"{_COPY}{node.output[0]}"
            graph.node.append(onnx.helper.make_node("Cast", node.input, [numbers], to=TensorProto.INT64))
            node = onnx.helper.make_node("Flatten", [numbers], node.output, axis=0)
        graph.node.append(node)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """What was inferred, in the branches as well."""
    yield from graph.value_info
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from attribute.g.output
                yield from _values(attribute.g)


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    tensor = value.type.tensor_type
    axes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    return tuple(axes) if tensor.HasField("shape") and min(axes, default=0) >= 0 else None


def _unfolded(node: onnx.NodeProto, shapes: dict[str, Shape | None]) -> int:
    """A convolution may copy what every window sees; a transposed one every product before it is summed."""
    places = node.output[0] if node.op_type == "Conv" else node.input[0]
    weight, windows = shapes.get(node.input[1]), shapes.get(places)
    if not weight or not windows:
        return 0
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return prod(weight[1:]) * max(1, groups) * prod(windows[2:])
