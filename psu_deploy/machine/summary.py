"""A state machine as a table for people."""

from __future__ import annotations

from math import prod

from psu_deploy.machine.graph import Graph
from psu_deploy.machine.schedule import state_name
from psu_deploy.text import columns, visible

_BYTES = 4
"""State is counted as float32."""


def summarise(graph: Graph) -> str:
    """Layer, kind, output shape, number of parameters, bytes of float32 state per sample; totals; several outputs."""
    rows: list[tuple[str, ...]] = [("layer", "kind", "output shape", "parameters", "state bytes")]
    total_parameters = total_state = 0
    for node in graph.nodes:
        parameters = node.layer.parameters
        state = _BYTES * sum(
            prod(graph.state_spec[state_name(node.name, role)].shape) for role in graph.roles(node.name)
        )
        total_parameters, total_state = total_parameters + parameters, total_state + state
        shape = str(graph.shapes[node.name])
        rows.append((visible(node.name), type(node.layer).__name__, shape, f"{parameters:,}", f"{state:,}"))
    rows.append(("total", "", "", f"{total_parameters:,}", f"{total_state:,}"))
    horizon = "unbounded" if graph.horizon is None else f"{graph.horizon} steps"
    counter = ", 8 bytes of step counter" if "step" in graph.state_spec else ""
    footer = f"input {graph.input_shape}, horizon {horizon}, latency {graph.latency} steps{counter}"
    if len(graph.outputs) > 1:
        footer += "\noutputs " + ", ".join(f"{visible(name)} {shape}" for name, shape in graph.outputs.items())
    head, *lines, total = columns(rows, left=3)
    rule = "-" * max(map(len, (head, *lines, total)))
    return "\n".join([head, rule, *lines, rule, total, footer])
