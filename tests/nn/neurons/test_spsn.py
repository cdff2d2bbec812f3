"""SPSN: draws by chance while training, by counter in eval mode, and lets gradients through as if S were P(S = 1)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.nn.neurons import SPSN
from tests.helpers import ROUNDING, apply, currents, leak_matrix, noise, sigmoid


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("T", [1, 2, 63])
def test_straight_through_gradient(T, training):
    """dL/dI = A^T (g sigmoid'(V)), whatever was drawn."""
    neuron, A = SPSN(4.0).double().train(training), leak_matrix(T, 0.25, 0.75)
    current, g = currents(T, 2, (3,)), currents(T, 2, (3,), seed=1)
    x = torch.from_numpy(current).requires_grad_()
    neuron(x).backward(torch.from_numpy(g))
    p = sigmoid(apply(A, current))
    np.testing.assert_allclose(x.grad, apply(A.T, g * p * (1 - p)), **ROUNDING)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_spikes_are_exactly_zero_or_one(dtype, training):
    x = torch.from_numpy(currents(50, 4, (20,))).to(dtype).requires_grad_()
    assert set(SPSN().train(training)(x).flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("current", [-2.0, -0.3, 0.0, 1.0, 3.0])
def test_fires_as_often_as_its_probability(current, training):
    """The mean over 20000 neurons lies within 5 standard deviations of sigmoid(V), at every step."""
    T, n = 6, 20_000
    V = apply(leak_matrix(T, 0.5, 0.5), np.full((T, 1), current))[:, 0]
    p = sigmoid(V)
    spikes = SPSN(2.0, seed=1).train(training)(torch.full((T, 4, n // 4), current)).mean((1, 2)).numpy()
    assert (np.abs(spikes - p) < 5 * np.sqrt(p * (1 - p) / n)).all()


def test_training_uses_the_generator_of_torch():
    neuron, x = SPSN(), torch.zeros(20, 2, 30)
    first, second = neuron(x), neuron(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    third = neuron(x)
    torch.manual_seed(5)
    assert torch.equal(neuron(x), third)


def test_eval_repeats_and_leaves_the_generator_alone():
    neuron, x = SPSN(seed=2).eval(), torch.zeros(20, 2, 30)
    before = torch.get_rng_state()
    assert torch.equal(neuron(x), neuron(x))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(neuron(x), SPSN(seed=3).eval()(x))


@pytest.mark.parametrize("current", [50.0, -50.0])
def test_saturated(current):
    assert (SPSN(1.0).eval()(torch.full((9, 2, 300), current)) == float(current > 0)).all()


def test_margin_is_probability_less_noise():
    x = currents(5, 2, (3,))
    V, R, margin = SPSN(2.0, seed=9).double().margin(torch.from_numpy(x))
    np.testing.assert_allclose(margin, sigmoid(apply(leak_matrix(5, 0.5, 0.5), x)) - noise(9, x.shape), **ROUNDING)
    assert not R.any()
    assert V.shape == x.shape


def test_own_decay_and_gain():
    V, _ = SPSN(decay=0.9, gain=2.0).double().potentials(torch.ones(4, 1, 1, dtype=torch.float64))
    np.testing.assert_allclose(V.flatten(), 2.0 * np.cumsum(0.9 ** np.arange(4)), **ROUNDING)
