"""An order in which every node comes after those that feed it; files of NIR hold nodes in alphabetical order."""

from __future__ import annotations

from collections import deque

from psu_deploy.exporters.nir.files import Flat


def in_order(flat: Flat) -> tuple[list[str], list[list[str]]]:
    """Names of the nodes in topological order, and the cycles that stand in its way, each as the names on it."""
    sources, readers = flat.sources(), flat.readers()
    missing = {name: len(fed_by) for name, fed_by in sources.items()}
    ready, done = deque(name for name, count in missing.items() if count == 0), []
    while ready:
        done.append(ready.popleft())
        for reader in readers[done[-1]]:
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    left = _with_a_way_on(flat.nodes.keys() - set(done), sources, readers)
    return done, _cycles([name for name in flat.nodes if name in left], readers)


def _with_a_way_on(names: set[str], sources: dict[str, list[str]], readers: dict[str, list[str]]) -> set[str]:
    """Without those that only stand behind a cycle: nothing leads from them back to any of the rest."""
    left = set(names)
    ahead = {name: sum(reader in left for reader in readers[name]) for name in left}
    ends = deque(name for name in left if ahead[name] == 0)
    while ends:
        end = ends.popleft()
        left.discard(end)
        for source in sources[end]:
            if source in left:
                ahead[source] -= 1
                if ahead[source] == 0:
                    ends.append(source)
    return left


def _cycles(names: list[str], readers: dict[str, list[str]]) -> list[list[str]]:
    """One shortest cycle through every node that lies on one, no node named twice."""
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
