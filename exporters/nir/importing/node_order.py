"""An order in which every node comes after those that feed it; files of NIR hold nodes in alphabetical order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter

from psu_deploy.exporters.nir.files import Flat
from psu_deploy.exporters.nir.files.structure import Edge


def in_order(flat: Flat) -> tuple[list[str], list[list[str]]]:
    """Names of the nodes in topological order, and the cycles that stand in its way, each as the names on it."""
    order = _sortable(flat.nodes, flat.edges)
    left = flat.nodes.keys() - set(order)
    # Without those that only stand behind a cycle: nothing leads from them back to any of the rest.
    left -= set(_sortable(left, [(b, a) for a, b in flat.edges if {a, b} <= left]))
    return order, _cycles([name for name in flat.nodes if name in left], flat.readers())


def _sortable(names: Iterable[str], edges: Iterable[Edge]) -> list[str]:
    """Names in topological order, as far as there is one.

    Edge by edge, so that of nodes that become ready at once the one comes first that is named first: the order is that
    of the machine's layers, and part of its hash.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(names, ()))
    for source, target in edges:
        sorter.add(target, source)
    with suppress(CycleError):  # it names one cycle of them, and goes on with what lies on none
        sorter.prepare()
    order: list[str] = []
    while ready := sorter.get_ready():
        order += ready
        sorter.done(*ready)
    return order


def _cycles(names: list[str], readers: dict[str, list[str]]) -> list[list[str]]:
    """One shortest cycle through every node that lies on one, no node named twice: all to mend, at once."""
    cycles: list[list[str]] = []
    named: set[str] = set()
    for name in names:
        found = _way_back(name, readers) if name not in named else []
        if found and named.isdisjoint(found):
            cycles.append(found)
        named.update(found)
    return cycles


def _way_back(start: str, readers: dict[str, list[str]]) -> list[str]:
    """Names on the shortest way from a node to itself; empty if there is none."""
    before: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        if start in readers[name]:
            way = [name]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        for reader in readers[name]:
            if reader not in before:
                before[reader] = name
                waiting.append(reader)
    return []
