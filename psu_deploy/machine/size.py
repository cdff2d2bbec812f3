"""What one sample of a machine takes: numbers of state and of values between layers, before any is allocated."""

from __future__ import annotations

from math import prod
from typing import Any

from psu_deploy.files.limits import check_memory
from psu_deploy.machine.graph import Graph, Node
from psu_deploy.machine.ops.fields import Shape

_BYTES = 4
"""Of a number: what is run is float32."""


def numbers_per_sample(graph: Graph) -> int:
    """State before and after a step, what every layer hands on, and the largest room a layer works in."""
    state = sum(prod(spec.shape) for spec in graph.state_spec.values())
    values = sum(prod(shape) for shape in graph.shapes.values())
    return 2 * state + values + max(_room(graph, node) for node in graph.nodes)


def check_size(graph: Graph, size: int, where: str) -> None:
    """Raise `ArtifactError` if one sample takes more memory than a file of `size` bytes is allowed."""
    check_memory(_BYTES * numbers_per_sample(graph), size, f"{where}: one sample of this network, state included,")


def _room(graph: Graph, node: Node) -> int:
    """Numbers of what a sliding window makes of its input before it slides: padded, and unfolded by a convolution."""
    layer: Any = node.layer
    padding = getattr(layer, "padding", None)
    if padding is None:
        return 0
    given, result = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    padded = given[0] * prod(n + sum(pair) for n, pair in zip(given[1:], padding, strict=True))
    return int(padded + _unfolded(layer, result))


def _unfolded(layer: Any, result: Shape) -> int:
    weight = getattr(layer, "weight", None)
    return 0 if weight is None else prod(weight.shape[1:]) * layer.groups * prod(result[1:])
