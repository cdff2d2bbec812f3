"""What is done to every captured machine, in this order."""

from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.passes.fold_channel_affine import FoldChannelAffine
from psu_deploy.machine.passes.merge_reshapes import MergeReshapes
from psu_deploy.machine.passes.remove_dead_layers import RemoveDeadLayers
from psu_deploy.machine.passes.settle_shifts import SettleShifts
from psu_deploy.machine.state_machine import StateMachine

PASSES: tuple[Pass, ...] = (
    MergeReshapes(),
    RemoveDeadLayers(),  # first, so that a dead reader does not stop a layer from being folded
    FoldChannelAffine(),
    SettleShifts(),
)


def simplify(machine: StateMachine) -> StateMachine:
    """Run every pass, in order."""
    for one_pass in PASSES:
        machine = one_pass(machine)
    return machine


__all__ = ["PASSES", "FoldChannelAffine", "MergeReshapes", "Pass", "RemoveDeadLayers", "SettleShifts", "simplify"]
