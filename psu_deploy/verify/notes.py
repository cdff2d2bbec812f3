"""What a reader of a report should know besides: about the network, and about how it was tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops import BernoulliNeuron


def notes_on(machine: StateMachine, x: Any) -> list[str]:
    """In words: steps that were not tried, late answers, neurons that fire at random.

    Args:
        machine: the network.
        x: what it is run on, (T, B, *input_shape).
    """
    return [*_untried(machine, len(x)), *_late(machine), *_at_random(machine)]


def _untried(machine: StateMachine, steps: int) -> Iterator[str]:
    if machine.max_steps is not None and steps < machine.max_steps:
        yield f"x has {steps} of the {machine.max_steps} steps the network is defined for (axis 0 is time)"


def _late(machine: StateMachine) -> Iterator[str]:
    if machine.latency:
        yield (f"the machine answers {machine.latency} step(s) late; its rows are compared with those they belong to")


def _at_random(machine: StateMachine) -> Iterator[str]:
    seeds: dict[int, list[str]] = {}
    for node in machine.nodes:
        if isinstance(node.layer, BernoulliNeuron):
            seeds.setdefault(node.layer.seed, []).append(node.name)
            yield (
                f"layer {node.name!r} fires at random: what holds in general are its firing probabilities, sigmoid(V); "
                f"the spikes are equal because every form draws them from seed {node.layer.seed}"
            )
    for seed, names in seeds.items():
        if len(names) > 1:
            said = f"layers {', '.join(names)} fire at random from the same seed {seed}"
            yield f"{said}, so not independently; give each its own"
