"""Whether an artifact is that of the network it is held against, as far as it says so itself."""

from __future__ import annotations

from dataclasses import replace

from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Runner, Structure

_SHOWN = 12
"""Letters of a hash."""


def structure_of(machine: StateMachine, other: Runner | StateMachine) -> Structure:
    """What the artifact holds, against what exporting the machine writes. Nothing runs."""
    if isinstance(other, StateMachine):
        same = other.content_hash == machine.content_hash
        return Structure() if same else Structure(unchecked="the two machines hold other layers or numbers")
    found, ends = other.structure(machine), _horizon_difference(machine, other)
    if found.differences or not ends:
        return found
    return replace(found, differences=(ends,))


def _horizon_difference(machine: StateMachine, runner: Runner) -> str:
    """A file may spell a network in another way, but not end earlier or later; one of approximations has no end."""
    ends = runner.artifact.horizon
    if ends == machine.horizon or runner.artifact.approximations:
        return ""
    said = ("any number of steps" if steps is None else f"{steps} step(s)" for steps in (ends, machine.horizon))
    return "it takes {}, the network is defined for {}".format(*said)


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
