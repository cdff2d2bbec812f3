"""The order of edges in a file: some readers walk them depth first, and run a node when they first meet it."""

from __future__ import annotations

from psu_deploy.errors import InternalError, UnsupportedModelError
from psu_deploy.exporters.nir.dialects import Dialect
from psu_deploy.exporters.nir.primitives import INPUT, OUTPUT


def ordered_edges(dialect: Dialect) -> list[tuple[str, str]]:
    """Edges by the place of their ends in the order of computation: every side track before the main one.

    Raises:
        UnsupportedModelError: if the reader walks depth first and would meet a sum before one of its terms.
    """
    place = {name: index for index, name in enumerate(dialect.nodes)}
    edges = sorted(dialect.edges, key=lambda edge: (place[edge[0]], place[edge[1]]))
    if dialect.target.depth_first:
        _check(edges, dialect)
    return edges


def _check(edges: list[tuple[str, str]], dialect: Dialect) -> None:
    visited = _depth_first(edges)
    place = {name: index for index, name in enumerate(visited)}
    for source, sink in edges:
        if (source, sink) not in dialect.feedback and place[source] > place[sink]:
            title, network = dialect.target.title, dialect.network
            late = network.problem(source, "", "").path
            reason = f"it sums parallel branches, and {title} runs it before {late} is known"
            remedy = "choose simulator snntorch or spikingjelly, or let one of the branches be a plain skip"
            raise UnsupportedModelError(
                [network.problem(sink, reason, remedy)], f"export the network to NIR for {title}"
            )
    if visited[-1] != OUTPUT:
        raise InternalError(f"a reader that walks depth first would take {visited[-1]} for the output")


def _depth_first(edges: list[tuple[str, str]]) -> list[str]:
    """Nodes in pre-order from the input."""
    children: dict[str, list[str]] = {}
    for source, sink in edges:
        children.setdefault(source, []).append(sink)
    visited: dict[str, None] = {}
    waiting = [INPUT]
    while waiting:
        name = waiting.pop()
        if name not in visited:
            visited[name] = None
            waiting += reversed(children.get(name, []))
    return list(visited)
