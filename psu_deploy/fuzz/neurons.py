"""Neurons at random: every causal operator in every place, every estimator, thresholds, resets, ties both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from psu_deploy.fuzz.draw import Draw
from psu_deploy.machine import ops

Operator = ops.CausalOperator
Estimator = ops.Estimator


class Parts(NamedTuple):
    """What neurons and filters may be made of.

    Attributes:
        steps: that learned matrices have.
        operators: kinds of causal operators.
        resets: those that may make R; one that is not strictly causal is drawn again.
        estimators: kinds of estimators.
        forgets: leaks shrink: decays from 0 to 0.97; else any from -1 to 1.
    """

    steps: int
    operators: tuple[type, ...]
    resets: tuple[type, ...]
    estimators: tuple[type, ...]
    forgets: bool = False


def _leak(draw: Draw, p: Parts) -> Operator:
    return ops.Leak(draw.real(0.25, 1.0), _decay(draw, p))


def _strict_leak(draw: Draw, p: Parts) -> Operator:
    return ops.StrictLeak(draw.real(0.25, 1.0), _decay(draw, p))


def _decay(draw: Draw, p: Parts) -> float:
    """Halves where numbers must stay exact: every step adds a bit."""
    if draw.exact:
        return draw.one((0.0, 0.5, 1.0))
    shrinking = draw.real(0.0, 0.97)
    return shrinking if p.forgets else draw.one((shrinking, draw.real(-1.0, 1.0), 1.0, 0.0))


def _partial_sums(draw: Draw, p: Parts) -> Operator:
    steps, strict = p.steps, draw.chance(0.3)
    bias = draw.standard(steps) if draw.chance(0.5) else np.zeros(steps)
    return ops.PartialSums(np.tril(draw.standard(steps, steps), -1 if strict else 0), bias * (not strict))


def _window(draw: Draw, p: Parts) -> Operator:
    """The same at every step where nothing is learned step by step."""
    whole = draw.chance(0.5) or ops.PartialSums not in p.operators
    rows, order = 1 if whole else p.steps, draw.whole(1, 3)
    columns, strict = draw.standard(rows, order), draw.chance(0.3)
    bias = draw.standard(rows) if draw.chance(0.5) else np.zeros(rows)
    return ops.Window(columns * [float(not strict), *[1.0] * (order - 1)], bias, time_invariant=whole)


def _exponentials(draw: Draw, p: Parts) -> Operator:
    terms = draw.whole(1, 3)
    decays = np.array([draw.real(0.0, 0.97 if p.forgets else 1.0) for _ in range(terms)])
    return ops.Exponentials(draw.standard(terms), decays, draw.one((0.0, draw.real(-1.0, 1.0))))


OPERATORS: dict[type, Callable[[Draw, Parts], Operator]] = {
    ops.Identity: lambda draw, p: ops.Identity(),
    ops.Leak: _leak,
    ops.StrictLeak: _strict_leak,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind -> (draw, parts) -> one of it."""


def _staircase(draw: Draw) -> Estimator:
    levels = np.unique(draw.standard(draw.whole(1, 8)) * 2.0)
    return ops.Staircase(levels, draw.one((0.25, 0.5, draw.real(-1.0, 1.0))), draw.one((0.0, 0.25)))


ESTIMATORS: dict[type, Callable[[Draw], Estimator]] = {
    ops.Sigmoid: lambda draw: ops.Sigmoid(),
    ops.RawCurrent: lambda draw: ops.RawCurrent(),
    ops.Staircase: _staircase,
    ops.SigmoidTable: lambda draw: ops.SigmoidTable(),
}
"""Kind -> draw -> one of it."""


def spiking_neuron(draw: Draw, p: Parts) -> ops.SpikingNeuron:
    """A neuron of the PSU family; some have a reset, and some of these an estimate of their own.

    Raises:
        InputError: if what was drawn for the reset is not strictly causal; the next draw may be.
    """
    integrate, reset, estimate = operator(draw, p), None, None
    if draw.chance(0.7):
        kind = ops.StrictLeak if ops.StrictLeak in p.resets and draw.chance(0.7) else draw.one(p.resets)
        reset = OPERATORS[kind](draw, p)
        estimate = operator(draw, p) if draw.chance(0.4) else None
    estimator = ESTIMATORS[draw.one(p.estimators)](draw)
    return ops.SpikingNeuron(integrate, estimate, estimator, reset, threshold(draw), fires(draw))


def operator(draw: Draw, p: Parts) -> Operator:
    """A causal operator."""
    return OPERATORS[draw.one(p.operators)](draw, p)


def lif_neuron(draw: Draw) -> ops.LIFNeuron:
    """Leaky or not, reset to zero or by the threshold."""
    tau = draw.one((None, 1.0, 2.0) if draw.exact else (None, 1.0, 2.0, 4.0, draw.real(1.0, 10.0)))
    divided = tau is not None and draw.chance(0.5)
    return ops.LIFNeuron(tau, divided, threshold(draw), draw.one(("hard", "soft")), fires(draw))


def bernoulli_neuron(draw: Draw, p: Parts) -> ops.BernoulliNeuron:
    """It fires at random, by a seed of its own."""
    return ops.BernoulliNeuron(operator(draw, p), draw.whole(0, 2**31 - 2))


def threshold(draw: Draw) -> float:
    """Where numbers are exact, one that they meet; elsewhere one that they hardly do, because a tie proves nothing."""
    if draw.exact:
        return draw.one((0.5, 1.0, 0.25, 0.0, -0.5))
    return draw.one((draw.real(0.1, 1.0), draw.real(0.1, 1.0), draw.real(0.1, 1.0), draw.real(-0.5, -0.1)))


def fires(draw: Draw) -> str:
    """On the threshold, or above it only."""
    return draw.one((">=", ">"))
