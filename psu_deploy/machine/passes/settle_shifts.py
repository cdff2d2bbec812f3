"""Settles the shifts of the channel affines that stay: a machine holds each as one number, and sums nothing for it."""

from __future__ import annotations

from dataclasses import replace

from psu_deploy.errors import InternalError
from psu_deploy.machine.graph import Node
from psu_deploy.machine.ops import ChannelAffine
from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.state_machine import StateMachine


class SettleShifts(Pass):
    """Forgets what the shift of a channel affine was summed of: that was done once, in float64, at capture."""

    def apply(self, machine: StateMachine) -> StateMachine:
        nodes = tuple(map(_settled, machine.nodes))
        return StateMachine(nodes, machine.input_shape, machine.output)

    def ensures(self, before: StateMachine, after: StateMachine) -> None:
        """No shift has a size of its own."""
        if any(map(_is_summed, after.nodes)):
            raise InternalError("a shift that is summed remains")


def _settled(node: Node) -> Node:
    return replace(node, layer=replace(node.layer, summed=None)) if _is_summed(node) else node


def _is_summed(node: Node) -> bool:
    return isinstance(node.layer, ChannelAffine) and node.layer.summed is not None
