"""Removes layers whose result reaches no output."""

from __future__ import annotations

from psu_deploy.errors import InternalError
from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.state_machine import StateMachine


class RemoveDeadLayers(Pass):
    """Keeps the layers the output depends on, in their order."""

    def apply(self, machine: StateMachine) -> StateMachine:
        needed = {machine.output}
        for node in reversed(machine.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        nodes = tuple(node for node in machine.nodes if node.name in needed)
        return StateMachine(nodes, machine.input_shape, machine.output)

    def ensures(self, before: StateMachine, after: StateMachine) -> None:
        """Every layer left is read by a later one, or is the output."""
        read = {name for node in after.nodes for name in node.inputs} | {after.output}
        dead = [node.name for node in after.nodes if node.name not in read]
        if dead:
            raise InternalError(f"dead layers remain: {dead}")
