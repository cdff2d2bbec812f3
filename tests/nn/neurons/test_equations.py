"""V, R and S of every neuron against its T x T matrices in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.nn.neurons import PSN
from tests.helpers import EVERY_NEURON, NEURONS, ROUNDING, NeuronCase, apply, currents, per_step

SHAPES = [(1, (1,)), (3, (1,)), (1, (7,)), (3, (2, 3))]
"""Batch and features: one neuron and many, alone and in a batch."""


def check(neuron, raw, current):
    x = torch.from_numpy(current)
    V, R, S = raw(current)
    potential, reset = neuron.potentials(x)
    np.testing.assert_allclose(potential.detach().numpy(), V, **ROUNDING)
    np.testing.assert_allclose(reset.detach().numpy(), R, **ROUNDING)
    np.testing.assert_array_equal(neuron(x).detach().numpy(), S)
    return S


@pytest.mark.rows(30)
@pytest.mark.parametrize("T", [1, 2, 7, 63])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.3])
@pytest.mark.parametrize("tau", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_equals_the_matrices(case: NeuronCase, tau, threshold, T):
    neuron, raw = case.make(T, tau, threshold)
    fired = [check(neuron, raw, currents(T, B, features)).mean() for B, features in SHAPES]
    assert T < 7 or 0.02 < np.mean(fired) < 0.98, "the input must make some neurons fire and some not"


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_silence_is_not_rest(case: NeuronCase):
    neuron, raw = case.make(63)
    check(neuron, raw, np.zeros((63, 2, 3)))


@pytest.mark.parametrize("current", [1e3, -1e3, 1e-300])
@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_saturated_and_tiny_input(case: NeuronCase, current):
    neuron, raw = case.make(15)
    with np.errstate(over="ignore"):
        check(neuron, raw, np.full((15, 2, 3), current))


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_runs_fewer_steps_than_the_horizon(case: NeuronCase):
    neuron, raw = case.make(9)
    current = currents(9, 2, (3,))
    short = neuron(torch.from_numpy(current[:4]))
    np.testing.assert_array_equal(short.detach().numpy(), raw(current)[2][:4])


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_an_input_does_not_reach_back_in_time(case: NeuronCase):
    neuron, _ = case.make(8)
    current = torch.from_numpy(currents(8, 2, (3,)))
    for t in range(8):
        changed = current.clone()
        changed[t] += 3.0
        for before, after in zip(neuron.potentials(current), neuron.potentials(changed), strict=True):
            assert torch.equal(before[:t], after[:t])


@pytest.mark.parametrize("case", NEURONS, ids=str)
def test_shows_its_operators(case: NeuronCase):
    """Anybody can rebuild V, R and S from neuron.integrate, .estimate and .reset."""
    neuron, raw = case.make(6, tau=1.5, threshold=0.3)
    np.testing.assert_allclose(neuron.integrate.matrix(6), raw.A, **ROUNDING)
    np.testing.assert_allclose(neuron.integrate.bias(6), raw.b, **ROUNDING)
    assert (neuron.threshold, neuron.fire_on) == (raw.threshold, raw.fire_on)
    if neuron.reset is None:
        assert neuron.estimate is None
        assert not raw.B.any()
    else:
        np.testing.assert_allclose(neuron.estimate.matrix(6), raw.A_R, **ROUNDING)
        np.testing.assert_allclose(neuron.estimate.bias(6), raw.b_r, **ROUNDING)
        np.testing.assert_allclose(neuron.reset.matrix(6), raw.B, **ROUNDING)
        z = torch.linspace(-3, 3, 7, dtype=torch.float64)
        np.testing.assert_allclose(neuron.estimator(z), raw.estimator(z.numpy()), **ROUNDING)


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_horizon(case: NeuronCase):
    assert case.make(5)[0].horizon == (None if case.unbounded else 5)


@pytest.mark.parametrize("case", [c for c in EVERY_NEURON if c.name in ("ipsu", "ppsu", "rpsu")], ids=str)
@pytest.mark.parametrize("tau", [1.5, 2.0, 4.0])
def test_learned_matrices_of_the_paper_start_at_the_leak(case: NeuronCase, tau):
    """An untrained IPSU, RPSU or PPSU is a PSU. 1e-7: the parameters are float32."""
    psu = NEURONS[0].make(12, tau)[1]
    learned = getattr(case.build(12, tau, 1.0), case.learned)
    np.testing.assert_allclose(learned.matrix(12), psu.A, atol=1e-7)
    np.testing.assert_array_equal(learned.bias(12), np.zeros(12))


@pytest.mark.parametrize("T", [1, 4, 63])
def test_psn_equals_its_full_matrix(T):
    neuron = PSN(T).double()
    current = currents(T, 3, (5,))
    W, b = neuron.weight.detach().numpy(), neuron.step_bias.detach().numpy()
    expected = apply(W, current) + per_step(b, current) >= 0
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach().numpy(), expected)
    assert np.abs(W).max() <= T**-0.5
    assert (b == -1).all()
