"""The only words an ONNX file of ours has: operators, kinds of attributes and of numbers. Anything else is refused.

onnxruntime runs whatever is in a file: loops without end, tensors made from nothing, data of other files, operators of
libraries. A file that says it is ours and holds what we never write was changed by somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.lower import WRITTEN
from psu_deploy.exporters.onnx.rounding import Weights
from psu_deploy.exporters.onnx.target import TARGET

MAX_NODES = 50_000
"""Of a graph and all its branches; onnxruntime takes ten seconds for them, and more is no network."""

Kinds = dict[int, np.dtype[Any]]
"""Kinds of numbers, as ONNX has them -> as numpy has them."""

_ATTRIBUTES = (AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.STRING)
_NUMBERS: Kinds = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.INT64: np.dtype("<i8"),
}
_NARROW: dict[str, Kinds] = {
    "float16": {TensorProto.FLOAT16: np.dtype("<f2")},
    "int8": {TensorProto.INT8: np.dtype("i1")},
}
_BRANCHES = {"then_branch", "else_branch"}


def check_vocabulary(path: Path, model: onnx.ModelProto, weights: Weights = "float32") -> None:
    """Raise `ArtifactError` unless a model holds nothing but what our exporter writes, with finite weights.

    Args:
        path: for the message.
        model: of one step.
        weights: what it says that they are stored as.
    """
    kinds = _NUMBERS | _NARROW.get(weights, {})
    foreign = [*_foreign_parts(model), *_foreign_nodes(model.graph), *_foreign_weights(model.graph.initializer, kinds)]
    foreign = foreign or list(_made_of_constants(model.graph))
    if foreign:
        more = f" and {len(foreign) - 4} more" if len(foreign) > 4 else ""
        raise ArtifactError(
            f"{path} holds what psu-deploy never writes, so it was changed: {', '.join(foreign[:4])}{more}; "
            "export it again"
        )


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the branches in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


def _foreign_parts(model: onnx.ModelProto) -> Iterator[str]:
    opsets = [(entry.domain, entry.version) for entry in model.opset_import]
    if opsets != [("", TARGET.opset)] or model.ir_version != TARGET.ir_version:
        yield f"opsets {opsets[:4]} in format {model.ir_version}"
    if model.functions or model.training_info:
        yield "functions or training"
    if model.graph.sparse_initializer or model.graph.quantization_annotation:
        yield "sparse or quantised weights"


def _foreign_nodes(graph: onnx.GraphProto) -> list[str]:
    found: list[str] = []
    for count, node in enumerate(nodes_of(graph)):
        if count >= MAX_NODES:
            return [f"more than {MAX_NODES} nodes"]
        if node.domain or node.op_type not in WRITTEN:
            found.append(f"operator {node.op_type!r} of domain {node.domain!r}")
        elif not all(_is_ours(node, attribute) for attribute in node.attribute):
            found.append(f"node {node.name!r} ({node.op_type}) with a tensor, a graph or a reference as attribute")
        if len(found) > MAX_NODES // 100:
            break
    return found


def _made_of_constants(graph: onnx.GraphProto) -> Iterator[str]:
    """Nodes that see nothing but constants: an engine computes them when it opens a file, however long that takes.

    Weights of fewer bits are made float32, and multiplied with their scales.
    """
    constants, wide = {weight.name for weight in graph.initializer}, set()
    narrow = {weight.name for weight in graph.initializer if weight.data_type not in _NUMBERS}
    for node in nodes_of(graph):
        if not all(name in constants for name in node.input):
            continue
        constants.update(node.output)
        if node.op_type == "Cast" and narrow.issuperset(node.input):
            wide.update(node.output)
        elif node.op_type != "Mul" or node.input[0] not in wide:
            yield f"node {node.name!r} ({node.op_type}), which computes from constants alone"


def _is_ours(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    if attribute.ref_attr_name:
        return False
    if attribute.type != AttributeProto.GRAPH:
        return attribute.type in _ATTRIBUTES
    branch = attribute.g
    plain = not (branch.initializer or branch.sparse_initializer or branch.input)
    return node.op_type == "If" and attribute.name in _BRANCHES and plain


def _foreign_weights(weights: Iterable[onnx.TensorProto], kinds: Kinds) -> Iterator[str]:
    for weight in weights:
        if weight.data_location == TensorProto.EXTERNAL or weight.external_data:
            yield f"weights in another file ({weight.name!r})"
        elif weight.data_type not in kinds or not _fits(weight, kinds[weight.data_type]):
            yield f"weights {weight.name!r} of another kind or size than they claim"
        elif not np.isfinite(np.frombuffer(weight.raw_data, kinds[weight.data_type])).all():
            yield f"weights {weight.name!r} with NaN or infinity"


def _fits(weight: onnx.TensorProto, kind: np.dtype[Any]) -> bool:
    claimed = prod(weight.dims) * kind.itemsize
    return min(weight.dims, default=0) >= 0 and claimed == len(weight.raw_data)
