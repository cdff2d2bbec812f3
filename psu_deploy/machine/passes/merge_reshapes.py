"""One Reshape instead of several in a row, and none where the shape stays what it was."""

from __future__ import annotations

from dataclasses import replace

from psu_deploy.machine.graph import Node
from psu_deploy.machine.ops import Flatten, Reshape
from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.state_machine import StateMachine


class MergeReshapes(Pass):
    """A Reshape or Flatten reads what the Reshapes before it read; one that changes nothing goes."""

    def apply(self, machine: StateMachine) -> StateMachine:
        source: dict[str, str] = {}
        nodes: list[Node] = []
        layers = {node.name: node.layer for node in machine.nodes}
        same: dict[str, str] = {}
        for node in machine.nodes:
            node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
            if isinstance(node.layer, Reshape | Flatten):
                (before,) = node.inputs
                while isinstance(layers.get(before), Reshape):
                    before = source[before]
                source[node.name] = before
                node = replace(node, inputs=(before,))
                unchanged = machine.shapes[before] == machine.shapes[node.name] and isinstance(node.layer, Reshape)
                if unchanged and node.name != machine.output:
                    same[node.name] = before
                    continue
            nodes.append(node)
        return replace(machine, nodes=tuple(nodes), output=machine.output)
