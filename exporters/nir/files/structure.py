"""Nodes and edges of a NIR graph: is it one network from one input to one output?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.nir.files.nodes import GRAPH, check_node, kind_name

Edge = tuple[str, str]

MAX_NESTING = 16
"""Of subgraphs in subgraphs."""


@dataclass
class Flat:
    """A NIR graph without subgraphs.

    A node of a subgraph is called `subgraph.node`; the subgraph's own Input and Output hand on what they get.

    Args:
        nodes: name -> node.
        edges: in the order of the graph.
        input: name of the Input of the network.
        output: name of its Output.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    input: str = ""
    output: str = ""

    def sources(self) -> dict[str, list[str]]:
        """Name of every node -> the nodes that feed it, in the order of the edges."""
        return _neighbours(self.nodes, self.edges)

    def readers(self) -> dict[str, list[str]]:
        """Name of every node -> the nodes that read it."""
        return _neighbours(self.nodes, [(b, a) for a, b in self.edges])


def flatten(graph: Any, source: str = "the NIR graph") -> Flat:
    """Nodes and edges of a graph and of all its subgraphs.

    Args:
        graph: a `nir.NIRGraph`.
        source: what messages call it.

    Raises:
        ArtifactError: if a node is unknown or holds NaN, an edge leads nowhere or is there twice, there is not exactly
            one Input and one Output, or a node does not lie between them.
    """
    if kind_name(graph) != GRAPH:
        raise ArtifactError(f"{source}: expected a nir.NIRGraph, got {kind_name(graph)}")
    flat = Flat()
    flat.input, flat.output = _collect(graph, source, "", flat, depth=0)
    _check_ways(flat, source)
    return flat


def _collect(graph: Any, where: str, prefix: str, flat: Flat, depth: int) -> Edge:
    """Add the nodes and edges of one graph to flat; returns the names of its Input and Output."""
    if depth > MAX_NESTING:
        raise ArtifactError(f"{where}: subgraphs in more than {MAX_NESTING} subgraphs; expected a flat network")
    _check_names(where, graph)
    ends = _end(where, graph, "Input"), _end(where, graph, "Output")
    enter, leave = {}, {}
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if kind_name(node) == GRAPH:
            enter[name], leave[name] = _collect(node, f"{where}: subgraph {name!r}", f"{full}.", flat, depth + 1)
            continue
        check_node(f"{where}: node {name!r}", node)
        if full in flat.nodes:
            raise ArtifactError(f"{where}: node {full!r} and a node of a subgraph have the same name; rename one")
        flat.nodes[full] = node
        enter[name] = leave[name] = full
    flat.edges += [(leave[a], enter[b]) for a, b in graph.edges]
    return enter[ends[0]], leave[ends[1]]


def _check_names(where: str, graph: Any) -> None:
    seen: set[Edge] = set()
    strange = [name for name in graph.nodes if not isinstance(name, str) or not name]
    if strange:
        raise ArtifactError(f"{where}: a node is called {strange[0]!r}; expected text")
    for edge in graph.edges:
        if not isinstance(edge, tuple | list) or len(edge) != 2:
            raise ArtifactError(f"{where}: edge {edge!r} must be a pair of names of nodes")
        unknown = [name for name in edge if name not in graph.nodes]
        if unknown:
            raise ArtifactError(
                f"{where}: edge {tuple(edge)} leads to {unknown[0]!r}, which is no node; nodes are {_some(graph.nodes)}"
            )
        if tuple(edge) in seen:
            raise ArtifactError(f"{where}: edge {tuple(edge)} is there twice; expected every edge once")
        seen.add((edge[0], edge[1]))


def _end(where: str, graph: Any, kind: str) -> str:
    found = [str(name) for name, node in graph.nodes.items() if kind_name(node) == kind]
    if len(found) != 1:
        raise ArtifactError(f"{where} has {len(found)} nodes of type {kind} {_some(found)}; expected exactly one")
    wrong = [e for e in graph.edges if e[1 if kind == "Input" else 0] == found[0]]
    if wrong:
        raise ArtifactError(
            f"{where}: edge {tuple(wrong[0])} leads {'into an' if kind == 'Input' else 'out of an'} {kind}"
        )
    return found[0]


def _check_ways(flat: Flat, source: str) -> None:
    """Every node can be reached from the input, and the output can be reached from it."""
    ways = [
        (flat.input, flat.readers(), "no way leads from the input to", "feed it"),
        (flat.output, flat.sources(), "no way leads to the output from", "read it"),
    ]
    for start, neighbours, said, remedy in ways:
        lost = flat.nodes.keys() - _reachable(start, neighbours)
        if lost:
            raise ArtifactError(f"{source}: {said} {_some(sorted(lost))}; {remedy} or take it out of the graph")


def _reachable(start: str, neighbours: Mapping[str, Iterable[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = [name for name in neighbours[waiting.pop()] if name not in found]
        found.update(new)
        waiting += new
    return found


def _neighbours(nodes: Iterable[str], edges: Iterable[Edge]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        found[target].append(source)
    return found


def _some(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
