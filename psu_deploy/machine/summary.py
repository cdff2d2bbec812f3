"""A state machine as a table for people."""

from __future__ import annotations

from math import prod

import numpy as np

from psu_deploy.machine.graph import Graph
from psu_deploy.machine.ops import Exponentials, PartialSums, Staircase, Window
from psu_deploy.text import visible

_BYTES = 4
"""State is counted as float32."""


def summarise(graph: Graph) -> str:
    """Layer, kind, output shape, number of parameters, bytes of float32 state per sample; then the totals."""
    rows: list[tuple[str, ...]] = [("layer", "kind", "output shape", "parameters", "state bytes")]
    total_parameters = total_state = 0
    for node in graph.nodes:
        parameters = count_parameters(node.layer)
        state = _BYTES * sum(prod(graph.state_spec[f"{node.name}.{role}"].shape) for role in graph.roles(node.name))
        total_parameters, total_state = total_parameters + parameters, total_state + state
        shape = str(graph.shapes[node.name])
        rows.append((visible(node.name), type(node.layer).__name__, shape, f"{parameters:,}", f"{state:,}"))
    rows.append(("total", "", "", f"{total_parameters:,}", f"{total_state:,}"))
    horizon = "unbounded" if graph.horizon is None else f"{graph.horizon} steps"
    counter = ", 8 bytes of step counter" if "step" in graph.state_spec else ""
    footer = f"input {graph.input_shape}, horizon {horizon}, latency {graph.latency} steps{counter}"
    return "\n".join([*_align(rows), footer])


def count_parameters(layer: object) -> int:
    """Number of learned numbers in a layer, nested operators included."""
    if isinstance(layer, PartialSums | Window | Exponentials):
        return layer.parameters
    if isinstance(layer, Staircase):  # given, not learned
        return 0
    values = vars(layer).values()
    arrays = sum(v.size for v in values if isinstance(v, np.ndarray))
    return arrays + sum(count_parameters(v) for v in values if hasattr(v, "__dataclass_fields__"))


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    left = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}" for a, b, c, _, _ in rows]
    right = [f"{row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}" for row in rows]
    lines = [f"{a}  {b}" for a, b in zip(left, right, strict=True)]
    rule = "-" * len(lines[0])
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
