"""How far rounding can move the margin of every kind of neuron. A kind that is not here is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.machine import ops
from psu_deploy.machine.reference import Moment
from psu_deploy.numerics import sigmoid_table
from psu_deploy.verify.layer_bounds import operator_bound, sigmoid_bound
from psu_deploy.verify.roundoff import Roundoff


@dataclass(frozen=True)
class Given:
    """What a neuron's bound is made of.

    Args:
        name: of the layer.
        current: the pair it is fed.
        spikes: what it emitted, (B, *features).
        seen: E in exact arithmetic, given the spikes before it, for estimators that decide.
        moment: its state, and where the next one goes.
    """

    name: str
    current: Tensor
    spikes: Tensor
    seen: Tensor | None
    moment: Moment


def _spiking_neuron(roundoff: Roundoff, neuron: ops.SpikingNeuron, given: Given) -> Tensor:
    moment, current = given.moment, given.current
    total = potential = operator_bound(roundoff, neuron.integrate, "V", current, moment)
    if neuron.reset is not None:
        looked_at = potential
        if neuron.estimate is not None:
            looked_at = operator_bound(roundoff, neuron.estimate, "E", current, moment)
        estimated = ESTIMATORS[type(neuron.estimator)](roundoff, neuron.estimator, looked_at, given)
        reset = operator_bound(roundoff, neuron.reset, "R", estimated, moment)
        if roundoff.arithmetic.reset_by_difference and isinstance(neuron.reset, ops.StrictLeak):
            taken = abs(neuron.reset.gain) * estimated.chunk(2)[0]
            reset = roundoff.with_error(reset, 4, reset.chunk(2)[0] + taken)
        total = potential + reset
    return roundoff.compared(given.name, total, neuron.threshold)


def _lif_neuron(roundoff: Roundoff, neuron: ops.LIFNeuron, given: Given) -> Tensor:
    """H. An error of V is carried on by the factor 1 - 1/tau, though V itself appears twice in the sum."""
    moment, current = given.moment, given.current
    share = 0.0 if neuron.tau is None else 1.0 / neuron.tau
    before, drive = moment.state["V"], current * (share if neuron.decay_input else 1.0)
    magnitude, error = (before * (1.0 - share) + drive).chunk(2)
    summed = (before + drive).chunk(2)[0] + magnitude + current.chunk(2)[0]
    potential = roundoff.with_error(torch.cat([magnitude, error]), 6, summed)
    spikes = given.spikes.to(roundoff.dtype)
    if neuron.reset == "hard":
        moment.new_state["V"] = potential * (1 - torch.cat([spikes, spikes]))
    else:
        taken = torch.cat([abs(neuron.threshold) * spikes, torch.zeros_like(spikes)])
        moment.new_state["V"] = roundoff.rounded(potential + taken, 2)
    return roundoff.compared(given.name, potential, neuron.threshold)


def _bernoulli_neuron(roundoff: Roundoff, neuron: ops.BernoulliNeuron, given: Given) -> Tensor:
    potential = operator_bound(roundoff, neuron.integrate, "V", given.current, given.moment)
    noise = torch.ones(())  # at most
    return roundoff.rounded(sigmoid_bound(roundoff, potential), 2, noise).chunk(2)[1]


NEURONS: dict[type, Callable[[Roundoff, Any, Given], Tensor]] = {
    ops.SpikingNeuron: _spiking_neuron,
    ops.LIFNeuron: _lif_neuron,
    ops.BernoulliNeuron: _bernoulli_neuron,
}
"""Kind of neuron -> bound of its margin's error, (B, *features); its next state goes into the moment."""


def _sigmoid(roundoff: Roundoff, estimator: ops.Sigmoid, pair: Tensor, given: Given) -> Tensor:
    return sigmoid_bound(roundoff, pair)


def _raw_current(roundoff: Roundoff, estimator: ops.RawCurrent, pair: Tensor, given: Given) -> Tensor:
    return pair


def _staircase(roundoff: Roundoff, estimator: ops.Staircase, pair: Tensor, given: Given) -> Tensor:
    """An error e of E turns every step with |E - threshold| <= e, E and the thresholds with their signs.

    Thresholds are rounded too. They are rising, so those out of reach on either side are counted.
    """
    largest = roundoff.scalar(float(np.abs(estimator.thresholds).max()))
    _, error = roundoff.remembered(f"{given.name}.E", pair, largest).chunk(2)
    seen, thresholds = _exact(given), torch.from_numpy(estimator.thresholds.copy())
    slack = 2 * roundoff.unit * thresholds.abs() + roundoff.tiny
    within = torch.bucketize((seen + error).contiguous(), thresholds - slack, right=True)
    below = torch.bucketize((seen - error).contiguous(), thresholds + slack, right=False)
    steps, height = len(thresholds), abs(estimator.height)
    turned = (within - below).to(error.dtype)
    most = torch.full_like(error, abs(estimator.offset) + height * steps)
    return roundoff.rounded(torch.cat([most, height * turned]), steps)


def _sigmoid_table(roundoff: Roundoff, estimator: ops.SigmoidTable, pair: Tensor, given: Given) -> Tensor:
    """An error e of E gives `f(E + e) - f(E)` or `f(E) - f(E - e)` at most; f itself is exact, and below 1."""
    _, error = pair.chunk(2)  # never 0: hardware that flushes to zero takes what is just below 0 for 0
    seen = _exact(given)
    low, exact, high = (_table_at(e) for e in (seen - error, seen, seen + error))
    return torch.cat([torch.ones_like(error), torch.maximum(high - exact, exact - low).to(error.dtype)])


ESTIMATORS: dict[type, Callable[[Roundoff, Any, Tensor, Given], Tensor]] = {
    ops.Sigmoid: _sigmoid,
    ops.RawCurrent: _raw_current,
    ops.Staircase: _staircase,
    ops.SigmoidTable: _sigmoid_table,
}
"""Kind of estimator -> pair of the estimated spike."""


def _exact(given: Given) -> Tensor:
    assert given.seen is not None, f"the bound of layer {given.name!r} needs its E in exact arithmetic"
    return given.seen


def _table_at(value: Tensor) -> Tensor:
    """The table of the sigmoid at E; differences of its values are exact."""
    z = np.floor(np.clip(value.numpy(), -sigmoid_table.LIMIT, sigmoid_table.LIMIT) * sigmoid_table.PER_UNIT)
    whole = sigmoid_table.integer_sigmoid(np.nan_to_num(z).astype(np.int64))
    return torch.from_numpy(whole / 2**sigmoid_table.VALUE_BITS)
