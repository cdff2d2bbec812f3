"""NIR file -> `nir.NIRGraph`, checked.

`nir.read` is not used: its type inference adds nodes of its own, cannot tell a dangling node from an output, and runs
on subgraphs even where it is switched off. The same classes are made from the same fields here, and checked by us.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError, MissingExtraError, require
from psu_deploy.exporters.nir.files.nodes import GRAPH, check_fields
from psu_deploy.exporters.nir.files.shapes import infer_shapes, numbers_per_sample
from psu_deploy.exporters.nir.files.structure import Flat, flatten
from psu_deploy.files.hdf5 import read_groups
from psu_deploy.files.limits import NUMBER, check_memory
from psu_deploy.machine.ops.fields import Shape

OLDEST = (1, 0, 8)
"""Release of nir."""

GROUP = "node"
"""The group of the file in which the network lies."""


def read_graph(path: str | Path) -> Any:
    """Read a NIR file.

    Args:
        path: what `nir.write` wrote, of any release of NIR.

    Returns:
        A `nir.NIRGraph` with one Input and one Output, in which every node lies on a way between them, every edge fits
        and every parameter is finite. Every node knows its input and output shape. Subgraphs are left as they are.

    Raises:
        ArtifactError: if the file is missing, damaged, not NIR, or anything of the above does not hold.
        MissingExtraError: if nir or h5py is not installed.
    """
    nir = require("nir", extra="nir")
    _check_version()
    source = Path(path)
    graph = _graph(nir, str(source), read_groups(source, (GROUP,), "NIR", "nir")[GROUP])
    flat, shapes = check_graph(graph, str(source))
    needed = NUMBER * numbers_per_sample(flat, shapes)
    check_memory(needed, source.stat().st_size, f"{source}: one sample of this network")
    for name, (features, result) in shapes.items():
        flat.nodes[name].input_type = {"input": np.array(features)}
        flat.nodes[name].output_type = {"output": np.array(result)}
    return graph


def _check_version() -> None:
    """Older releases of nir know neither v_reset nor metadata of an Input; some simulators pin them."""
    installed = tuple(int(part) for part in version("nir").split(".")[:3] if part.isdigit())
    if installed < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise MissingExtraError(f'nir {version("nir")} is installed, this needs {needed}: pip install "nir>={needed}"')


def check_graph(graph: Any, source: str = "the NIR graph") -> tuple[Flat, dict[str, tuple[Shape, Shape]]]:
    """Raise `ArtifactError` unless a `nir.NIRGraph` is whole: structure, parameters, shapes. Changes nothing in it.

    Args:
        graph: a `nir.NIRGraph`.
        source: what messages call it.

    Returns:
        Its nodes and edges without subgraphs, and name of every node -> features in and out.
    """
    flat = flatten(graph, source)
    return flat, infer_shapes(flat, source)


def _graph(nir: Any, where: str, tree: Mapping[str, Any]) -> Any:
    kind = tree.get("type")
    if not isinstance(kind, str) or kind != GRAPH:
        raise ArtifactError(f"{where} holds no NIR graph: expected type {GRAPH!r}, found {kind!r}")
    nodes = tree.get("nodes")
    if not isinstance(nodes, dict) or not nodes:
        raise ArtifactError(f"{where} has no nodes; expected a group 'nodes' with at least an Input and an Output")
    made = {name: _node(nir, f"{where}: node {name!r}", node) for name, node in nodes.items()}
    return nir.NIRGraph(made, _edges(where, tree.get("edges")), _metadata(tree), type_check=False)


def _node(nir: Any, where: str, tree: Any) -> Any:
    kind = tree.get("type") if isinstance(tree, dict) else None
    if not isinstance(kind, str):
        raise ArtifactError(f"{where} has no type; expected a group with a text 'type'")
    if kind == GRAPH:
        return _graph(nir, where, tree)
    check_fields(where, kind, tree)
    absent = {"input_shape": None, "bias": None} if kind in ("Conv1d", "Conv2d") else {}
    fields = {**absent, **tree, "metadata": _metadata(tree)}
    try:
        return nir.dict2NIRNode(fields)
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"{where} ({kind}) cannot be made of its parameters: {reason}") from error


def _edges(where: str, edges: Any) -> list[tuple[str, str]]:
    array = np.asarray(edges)
    if edges is None or (array.size and (array.ndim != 2 or array.shape[1] != 2 or array.dtype != object)):
        raise ArtifactError(f"{where} has no list of edges; expected 'edges' with two names of nodes in each row")
    return [(str(a), str(b)) for a, b in array] if array.size else []


def _metadata(tree: Mapping[str, Any]) -> dict[str, Any]:
    metadata = tree.get("metadata", {})
    return dict(metadata) if isinstance(metadata, dict) else {}
