"""Knife edges taken apart: a run for each way a decision may fall, and what they have in common.

A decision that is not certain leaves two cases: it is a spike, or none. In each of them it is certain, and whatever
comes behind it can be judged again. A runtime takes one of the cases; what is the same in all of them is the same in
every runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops import BernoulliNeuron, LIFNeuron, Neuron
from psu_deploy.verify.portable.binary32 import uncertain
from psu_deploy.verify.portable.walk import Assumed, Decided, Place, decisions

AT_ONCE = 32
"""Cases that are run side by side."""


@dataclass(frozen=True)
class _Case:
    sample: int
    assumed: Assumed
    root: Place


def settled(machine: StateMachine, x: Tensor, cases: int) -> tuple[dict[str, Decided], tuple[int, ...]]:
    """Margins of the exact run, and how far any runtime can move each of them towards its threshold.

    Args:
        machine: the network.
        x: (T, B, *input_shape), float64.
        cases: how many a sample may be taken apart into; whatever is uncertain then counts as 0 or 1, whichever is
            worse.

    Returns:
        Decisions of every layer, and the number of cases of every sample.
    """
    found = decisions(machine, x, [{}] * x.shape[1])
    fires = {name: _fires(machine, name, one.margin) for name, one in found.items()}
    spare = {name: _spare(one, fires[name]) for name, one in found.items()}
    counts = [1] * x.shape[1]
    repeatable = not any(isinstance(node.layer, BernoulliNeuron) for node in machine.nodes)
    waiting = [
        _Case(sample, {}, root)
        for sample in range(x.shape[1])
        if cases > 1 and repeatable and (root := _root(machine, found, sample, {})) is not None
    ]
    for case in waiting:
        counts[case.sample] = 2
        for rows in spare.values():
            rows[:, case.sample] = torch.inf
    while waiting:
        batch, waiting = waiting[: AT_ONCE // 2], waiting[AT_ONCE // 2 :]
        waiting += _split(machine, x, batch, cases, counts, fires, spare)
    bounds = {name: found[name].margin.abs() - rows for name, rows in spare.items()}
    return {name: Decided(found[name].margin, bounds[name]) for name in found}, tuple(counts)


def _split(
    machine: StateMachine,
    x: Tensor,
    batch: list[_Case],
    cases: int,
    counts: list[int],
    fires: Mapping[str, Tensor],
    spare: Mapping[str, Tensor],
) -> list[_Case]:
    """Run both sides of every case; those that end here go into `spare`, the others come back."""
    sides = [(case.sample, {**case.assumed, case.root: spike}) for case in batch for spike in (False, True)]
    runs = decisions(machine, x[:, [sample for sample, _ in sides]], [assumed for _, assumed in sides])
    further = []
    for index, (sample, assumed) in enumerate(sides):
        root = _root(machine, runs, index, assumed)
        if root is not None and counts[sample] < cases:
            counts[sample] += 1
            further.append(_Case(sample, assumed, root))
            continue
        for name, one in runs.items():
            own = Decided(one.margin[:, index], one.bound[:, index])
            left = _spare(own, fires[name][:, sample])
            spare[name][:, sample] = torch.minimum(spare[name][:, sample], left)
    return further


def _spare(decided: Decided, fires: Tensor) -> Tensor:
    """How far a margin stays on the side of the threshold that it has in the exact run, at least."""
    own = torch.where(fires, decided.margin, -decided.margin) - decided.bound
    return own.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _fires(machine: StateMachine, name: str, margin: Tensor) -> Tensor:
    layer = next(node.layer for node in machine.nodes if node.name == name)
    return margin >= 0 if getattr(layer, "fire_on", ">") == ">=" else margin > 0


def _root(machine: StateMachine, found: Mapping[str, Decided], index: int, assumed: Assumed) -> Place | None:
    """The first uncertain decision that another one depends on: nothing that it depends on is uncertain."""
    return min(_uncertain(machine, found, index, assumed), default=None, key=lambda place: place.t)


def _uncertain(machine: StateMachine, found: Mapping[str, Decided], index: int, assumed: Assumed) -> Iterator[Place]:
    """Of every layer, in network order, the first step's first one."""
    heard = _heard(machine)
    for name, one in found.items():
        if name not in heard or not len(one.margin):
            continue
        doubt, start = uncertain(one.margin[:, index], one.bound[:, index]), machine.starts[name]
        for place in assumed:
            if place.layer == name:
                doubt[(place.t - start, *place.neuron)] = False
        if doubt.any():
            t, *neuron = doubt.nonzero()[0].tolist()
            yield Place(t + start, name, tuple(neuron))


def _heard(machine: StateMachine) -> frozenset[str]:
    """Neuron layers whose spikes other decisions depend on, or their own later ones."""
    heard: set[str] = set()
    for node in reversed(machine.nodes):
        if isinstance(node.layer, Neuron) or node.name in heard:
            heard.update(node.inputs)
    return frozenset(node.name for node in machine.nodes if node.name in heard or isinstance(node.layer, LIFNeuron))
