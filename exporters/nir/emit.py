"""Machine -> NIR graph in the dialect of a target."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import nir
import numpy as np

from psu_deploy.errors import InternalError
from psu_deploy.exporters.nir.dialects import Dialect, to_nodes
from psu_deploy.exporters.nir.edge_order import ordered_edges
from psu_deploy.exporters.nir.lower import lower
from psu_deploy.exporters.nir.metadata import write_metadata
from psu_deploy.exporters.nir.primitives import Network
from psu_deploy.exporters.nir.target import DT, FORMAT, NirTarget
from psu_deploy.machine import StateMachine

_PACKAGES = ("psu-deploy", "nir", "nirtorch", "torch", "numpy")


def emit(machine: StateMachine, target: NirTarget, facts: dict[str, Any]) -> nir.NIRGraph:
    """The graph, with metadata.

    Args:
        machine: what to write.
        target: whose dialect.
        facts: machine_hash, fidelity and approximations.

    Raises:
        UnsupportedModelError: if NIR, or the target, cannot express some part of it.
    """
    network = lower(machine)
    dialect = to_nodes(network, target)
    edges = ordered_edges(dialect)
    try:
        graph = nir.NIRGraph(dialect.nodes, edges)
    except ValueError as error:  # its own inference of shapes
        raise InternalError(f"NIR finds the graph inconsistent: {error}; please report it") from error
    _check_shapes(graph, dialect)
    write_metadata(graph, _metadata(machine, network, dialect, target) | facts)
    return graph


def _metadata(machine: StateMachine, network: Network, dialect: Dialect, target: NirTarget) -> dict[str, Any]:
    vertices = dialect.network.spiking
    return {
        "format": FORMAT,
        "dt": DT,
        "flavour": target.name,
        "reader": target.title,
        "reader_versions": dict(target.versions),
        "ties": "thresholds are moved by one float where the reader decides a tie otherwise than the neuron",
        "static_input": machine.static_input,
        "input_shape": list(machine.input_shape),
        "output_shape": list(machine.shapes[machine.output]),
        "readout": network.readout,
        "neurons": {name: {"node": vertices[name], "shape": list(machine.shapes[name])} for name in machine.spiking},
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _check_shapes(graph: nir.NIRGraph, dialect: Dialect) -> None:
    """NIR's own inference must come to our shapes; it is known to misjudge some."""
    for name, shape in dialect.shapes.items():
        node = graph.nodes[name]
        found = next(iter(node.output_type.values()))
        if found is None or tuple(int(n) for n in np.ravel(found)) != tuple(shape):
            raise InternalError(f"node {name!r} gives features {found} to NIR and {shape} to us; please report it")
