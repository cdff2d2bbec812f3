"""What one sample of a machine takes: numbers of state and of values between layers, before any is allocated."""

from __future__ import annotations

from math import prod

from psu_deploy.files.limits import check_memory
from psu_deploy.machine.graph import Graph

_BYTES = 4
"""Of a number: what is run is float32."""


def numbers_per_sample(graph: Graph) -> int:
    """State before and after a step, what every layer hands on, and the largest room a layer works in."""
    state = sum(prod(spec.shape) for spec in graph.state_spec.values())
    values = sum(prod(shape) for shape in graph.shapes.values())
    rooms = (node.layer.workspace(*(graph.shapes[name] for name in node.inputs)) for node in graph.nodes)
    return 2 * state + values + max(rooms)


def check_size(graph: Graph, size: int, where: str) -> None:
    """Raise `ArtifactError` if one sample takes more memory than a file of `size` bytes is allowed."""
    check_memory(_BYTES * numbers_per_sample(graph), size, f"{where}: one sample of this network, state included,")
