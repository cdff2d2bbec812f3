"""Which part of the vocabulary a network is drawn from: all of it, or what a target has a word for."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.fuzz.layers import JOINING, MAKERS
from psu_deploy.fuzz.neurons import ESTIMATORS, OPERATORS
from psu_deploy.machine import ops


@dataclass(frozen=True)
class Profile:
    """A part of the vocabulary.

    Args:
        kinds: of layers.
        operators: causal operators of neurons and filters.
        resets: those that make R.
        estimators: of spikes.
        neurons: kinds that one layer in five is drawn from, besides being among all others.
        chain: one layer behind the other, and what reads out stands at the end only.
        axes: features have so many at most.
        forgets: leaks shrink.
        exact: all numbers are small multiples of 1/4.
        longest: steps of a sequence at most.
    """

    kinds: tuple[type, ...] = (*MAKERS, *JOINING)
    operators: tuple[type, ...] = tuple(OPERATORS)
    resets: tuple[type, ...] = (ops.StrictLeak, ops.PartialSums, ops.Window)
    estimators: tuple[type, ...] = tuple(ESTIMATORS)
    neurons: tuple[type, ...] = (ops.SpikingNeuron, ops.SpikingNeuron, ops.LIFNeuron)
    chain: bool = False
    axes: int = 4
    forgets: bool = False
    exact: bool = False
    longest: int = 12


ALL = Profile()

EXACT = Profile(
    kinds=(
        *(ops.Linear, ops.Conv1d, ops.Conv2d, ops.SumPool, ops.MaxPool, ops.ChannelAffine, ops.Flatten, ops.Reshape),
        *(ops.Permute, ops.Take, ops.ConstantPad, ops.Delay, ops.Filter, ops.Activation, ops.Add, ops.Subtract),
        *(ops.Concat, ops.TimeConv, ops.SpikingNeuron, ops.LIFNeuron),
    ),
    operators=(ops.Identity, ops.Leak, ops.StrictLeak, ops.PartialSums, ops.Window),
    resets=(ops.StrictLeak, ops.PartialSums, ops.Window),
    estimators=(ops.RawCurrent, ops.Staircase),
    axes=3,
    exact=True,
    longest=5,
)
"""Nothing is rounded on the way, whatever the order: a potential may lie on the threshold, and the bound is zero."""

_CHAIN = (
    *(ops.Linear, ops.Conv1d, ops.Conv2d, ops.ChannelAffine, ops.AvgPool, ops.SumPool, ops.MaxPool, ops.Flatten),
    *(ops.SpikingNeuron, ops.LIFNeuron),
)

NIR = Profile(
    kinds=(*_CHAIN, ops.Add, ops.Delay, ops.TimeConv, ops.Filter),
    operators=(ops.Identity, ops.Leak, ops.Exponentials, ops.Window),
    resets=(ops.StrictLeak,),
    estimators=(ops.Staircase, ops.RawCurrent),
    chain=True,
    axes=3,
    forgets=True,
)

INTEGERS = Profile(
    kinds=_CHAIN,
    operators=(ops.Identity, ops.Leak, ops.PartialSums, ops.Window, ops.Exponentials),
    resets=(ops.StrictLeak, ops.PartialSums, ops.Window),
    chain=True,
    axes=3,
    forgets=True,
)

OWN: dict[str, Profile] = {"nir": NIR, "lava": INTEGERS}
"""Target -> what it has words for, where that is a small part of all; three of four networks are drawn from it."""


def profile_of(target: str, number: int) -> Profile:
    """The profile of a network of a target: in turn, so that all of them come up early."""
    own = OWN.get(target)
    if own is not None:
        return own if number % 4 else ALL
    return EXACT if number % 3 == 2 else INTEGERS if number % 6 == 4 else ALL
