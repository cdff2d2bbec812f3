"""Whether an artifact is that of the network it is held against, as far as it says so itself."""

from __future__ import annotations

from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Runner, Structure

_SHOWN = 12
"""Letters of a hash."""


def structure_of(machine: StateMachine, other: Runner | StateMachine) -> Structure:
    """What the artifact holds, against what exporting the machine writes. Nothing runs."""
    if not isinstance(other, StateMachine):
        return other.structure(machine)
    same = other.content_hash == machine.content_hash
    return Structure() if same else Structure(unchecked="the two machines hold other layers or numbers")


def another_network(machine: StateMachine, other: Runner | StateMachine) -> str:
    """A sentence, if the artifact says that it was made from another network; "" = it does not.

    Raises:
        InputError: if it takes input of another shape, and so cannot be that of this network.
    """
    if other.input_shape != machine.input_shape:
        raise InputError(
            f"the artifact takes input of shape {other.input_shape}, the model {machine.input_shape}: "
            "it was exported from another model"
        )
    said = other.content_hash if isinstance(other, StateMachine) else other.artifact.machine_hash
    if said == machine.content_hash:
        return ""
    return (
        f"the artifact says that it was made from another network (machine {said[:_SHOWN]}, here "
        f"{machine.content_hash[:_SHOWN]}); if that is not intended, export it again, or name the network it came from"
    )
