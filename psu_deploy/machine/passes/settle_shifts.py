"""Settles the shifts of the channel affines that stay: a machine holds each as one number, and sums nothing for it."""

from __future__ import annotations

from dataclasses import replace

from psu_deploy.errors import InternalError
from psu_deploy.machine.ops import ChannelAffine, Layer
from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.state_machine import StateMachine


class SettleShifts(Pass):
    """Forgets what the shift of a channel affine was summed of: that was done once, in float64, at capture."""

    def apply(self, machine: StateMachine) -> StateMachine:
        nodes = tuple(replace(node, layer=_settled(node.layer)) for node in machine.nodes)
        return StateMachine(nodes, machine.input_shape, machine.output)

    def ensures(self, before: StateMachine, after: StateMachine) -> None:
        """No shift has a size of its own."""
        if any(_settled(node.layer) is not node.layer for node in after.nodes):
            raise InternalError("a shift that is summed remains")


def _settled(layer: Layer) -> Layer:
    return replace(layer, summed=None) if isinstance(layer, ChannelAffine) and layer.summed is not None else layer
