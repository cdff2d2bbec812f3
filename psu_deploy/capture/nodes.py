"""The machine's nodes as they are written down, and what each of them gave on the example."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from psu_deploy.capture.values import Value
from psu_deploy.machine import Node, ops
from psu_deploy.machine.ops.fields import saved_fields
from psu_deploy.machine.schedule import INPUT, STEP


class Nodes:
    """Nodes so far, in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.seen: dict[str, list[Value]] = {}
        """Name -> its value; one for every step that a loop has taken."""
        self.claims: list[Value] = []
        """Every tensor that the network has come across, and whose numbers it is said to hold."""
        self.spikes: dict[str, list[Value]] = {}
        """Name of a neuron layer -> what it was made to emit, likewise."""
        self.where: dict[str, str] = {}
        """Name -> file and line of the call."""
        self._by_name: dict[str, Node] = {}
        self._uses: dict[str, int] = {}

    def add(self, path: str, layer: ops.Layer, inputs: tuple[str, ...], where: str) -> str:
        """Append a node named after its path, or `path#2` for its second use."""
        name = self._unique(path)
        node = Node(name, layer, inputs)
        self.nodes.append(node)
        self._by_name[name] = node
        self.where[name] = where
        return name

    def find(self, path: str, layer: ops.Layer, inputs: tuple[str, ...]) -> str | None:
        """The node of this path that computes the same of the same inputs: a loop comes back to it at every step."""
        for node in self.nodes:
            if node.inputs == inputs and node.name.partition("#")[0] == path and alike(node.layer, layer):
                return node.name
        return None

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def _unique(self, path: str) -> str:
        self._uses[path] = self._uses.get(path, 0) + 1
        first = self._uses[path] == 1 and path not in (INPUT, STEP)
        return path if first else f"{path}#{self._uses[path]}"


def alike(first: Any, second: Any) -> bool:
    """Whether two layers, or parts of them, are of one kind and hold the same numbers; 0.0 is not -0.0."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second) and np.array_equal(np.signbit(first), np.signbit(second))
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in (saved_fields(first) if fields(first) else [])]
        return all(alike(getattr(first, name), getattr(second, name)) for name in names)
    return bool(first == second)
