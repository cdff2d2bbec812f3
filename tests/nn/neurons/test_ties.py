"""Margins of exactly zero: the one place where >= and > differ. All numbers are dyadic, so nothing is rounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PSN, PSU, RPSU, MaskedPSN, SlidingPSN
from psu_deploy.nn.neurons.surrogate import Atan, fire


def fires(neuron, *current):
    x = torch.tensor(current, dtype=torch.float64)[:, None, None]
    potential, reset = neuron.potentials(x)
    return (potential - reset - neuron.threshold).flatten().tolist(), neuron(x).flatten().tolist()


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_psu_first_step(fire_on, spike, threshold):
    """V[0] = x/2 and R[0] = 0."""
    assert fires(PSU(2.0, threshold, fire_on=fire_on), 2 * threshold) == ([0.0], [spike])


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
@pytest.mark.parametrize("unit", [PSU, lambda *a, **k: RPSU(2, *a, **k), lambda *a, **k: IPSU(2, *a, **k)])
def test_after_a_silent_step(unit, fire_on, spike):
    """Silence gives sigmoid(0) = 1/2, so R[1] = 1/4 and V[1] must be 5/4."""
    neuron = unit(2.0, 1.0, fire_on=fire_on).double()
    assert fires(neuron, 0.0, 2.5) == ([-1.0, 0.0], [0.0, spike])


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
def test_raw_current_reset_ties_at_every_step(fire_on, spike):
    """IPSU as the authors coded it is linear: with A_I = 2 I, V[t] = 2 x[t] and R[t] = sum_{s<t} x[s] / 2**(t-s)."""
    T = 12
    neuron = IPSU(T, 2.0, 1.0, reset_input="current", reset_gain=1.0, fire_on=fire_on).double()
    neuron.integrate.set_matrix(2 * torch.eye(T))
    current: list[float] = []
    for t in range(T):
        reset = sum(x / 2 ** (t - s) for s, x in enumerate(current))
        current.append((1.0 + reset) / 2)
    assert fires(neuron, *current) == ([0.0] * T, [spike] * T)


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
def test_sliding_psn(fire_on, spike):
    """Weights 1, 1/2, bias -1: x = 1, then 1/2, 3/4, ... keep the sum at exactly 0."""
    neuron = SlidingPSN(2, fire_on=fire_on).double()
    assert fires(neuron, 1.0, 0.5, 0.75) == ([0.0] * 3, [spike] * 3)


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
def test_masked_psn(fire_on, spike):
    """W = 1, bias -1: x = 1, 0, 0 sums to exactly 1; with a band of two, the 1 is forgotten at last."""
    neuron = MaskedPSN(3, 2, fire_on=fire_on).double()
    neuron.integrate.set_matrix(torch.ones(3, 3))
    assert fires(neuron, 1.0, 0.0, 0.0) == ([0.0, 0.0, -1.0], [spike, spike, 0.0])


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("unit", [LIF, PLIF])
def test_lif(unit, reset, fire_on, spike):
    """H = 1 at once; a spike takes it to 0 by either reset, and 2 brings it back to 1."""
    neuron = unit(2.0, 1.0, reset=reset, fire_on=fire_on).double()
    after = 2.0 if spike else 1.0  # without a spike V is still 1
    assert fires(neuron, 2.0, after) == ([0.0, 0.0], [spike, spike])


@pytest.mark.parametrize(("fire_on", "spike"), [(">=", 1.0), (">", 0.0)])
def test_psn(fire_on, spike):
    neuron = PSN(2, fire_on=fire_on).double()
    with torch.no_grad():
        neuron.weight.copy_(torch.eye(2))
    assert neuron(torch.ones(2, 1, 1, dtype=torch.float64)).flatten().tolist() == [spike, spike]


def test_the_smallest_margins_decide():
    tiny = np.nextafter(0.0, 1.0)
    margin = torch.tensor([-tiny, -0.0, 0.0, tiny], dtype=torch.float64)
    assert fire(margin, Atan(), ">=").tolist() == [0, 1, 1, 1]
    assert fire(margin, Atan(), ">").tolist() == [0, 0, 0, 1]
