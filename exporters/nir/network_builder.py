"""A network being drawn, vertex by vertex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.primitives import Primitive, Vertex

Rule = TypeVar("Rule")


def rule_for(table: Mapping[type, Rule | Refusal], part: object) -> Rule:
    """The rule for a part of a machine whose kinds are all known.

    Raises:
        Refusal: if the table refuses the kind.
    """
    row = table[type(part)]
    if isinstance(row, Refusal):
        raise Refusal(row.reason, row.remedy)
    return row


class NetworkBuilder:
    """Vertices of one layer after the other; those of a layer share its name as their prefix."""

    def __init__(self) -> None:
        self.vertices: list[Vertex] = []
        self._layer = ""

    def begin(self, layer: str) -> None:
        """Start a layer."""
        self._layer = layer

    def name(self, role: str) -> str:
        """Of a vertex of this layer; the layer's own name for role ""."""
        return f"{self._layer}__{role}" if role else self._layer

    def add(self, role: str, primitive: Primitive, *inputs: str, feedback: tuple[str, ...] = ()) -> str:
        """Add a vertex; several inputs are summed.

        Returns:
            Its name.
        """
        self.vertices.append(Vertex(self.name(role), primitive, inputs, feedback))
        return self.vertices[-1].name
