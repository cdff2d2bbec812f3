"""What a NIR graph holds, for people."""

from __future__ import annotations

from typing import Any

import nir

from psu_deploy.exporters.nir.metadata import features_of
from psu_deploy.runtime.contents import Contents, LayerLine, Tensor


def contents_of(graph: nir.NIRGraph) -> Contents:
    """Every node, in the order in which the edges first name them. What it keeps is its simulator's business."""
    order = dict.fromkeys(name for edge in graph.edges for name in edge)
    nodes: dict[str, Any] = {name: graph.nodes[name] for name in order}
    inner = {name: node for name, node in nodes.items() if not isinstance(node, nir.Input | nir.Output)}
    return Contents(
        inputs=tuple(_tensor(name, node) for name, node in nodes.items() if isinstance(node, nir.Input)),
        outputs=tuple(_tensor(name, node) for name, node in nodes.items() if isinstance(node, nir.Output)),
        layers=tuple(LayerLine(n, type(node).__name__, _shape_of(node)) for n, node in inner.items()),
    )


def _shape_of(node: Any) -> tuple[int, ...] | None:
    """Of its output, if NIR could tell."""
    known = all(shape is not None for shape in node.output_type.values())
    return features_of(node.output_type) if known else None


def _tensor(name: str, node: Any) -> Tensor:
    return Tensor(name, features_of(node.input_type))
