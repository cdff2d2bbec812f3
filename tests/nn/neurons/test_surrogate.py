"""Surrogate gradients against their closed forms, alone and through whole neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import PSN, PSU, Atan, PiecewiseLinear, Rectangle
from psu_deploy.nn.neurons.surrogate import fire
from tests.helpers import NEURONS, ROUNDING, NeuronCase, apply, currents, sigmoid


def atan(z, alpha):
    return alpha / 2 / (1 + (np.pi * alpha * z / 2) ** 2)


def piecewise_linear(z, alpha):
    return np.where(np.abs(z) <= 1 / alpha, alpha - alpha**2 * np.abs(z), 0.0)


def rectangle(z, half_width):
    return np.where(np.abs(z) < half_width, 0.5 / half_width, 0.0)


SURROGATES = [(Atan, atan), (PiecewiseLinear, piecewise_linear), (Rectangle, rectangle)]


@pytest.mark.parametrize("fire_on", [">=", ">"])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 4.0])
@pytest.mark.parametrize(("surrogate", "closed_form"), SURROGATES)
def test_closed_form(surrogate, closed_form, alpha, fire_on):
    z = np.concatenate([np.linspace(-3, 3, 61), [0.0, -0.0, 1 / alpha, -1 / alpha]])
    margin = torch.from_numpy(z).requires_grad_()
    (fire(margin, surrogate(alpha), fire_on) * 3.0).sum().backward()
    np.testing.assert_allclose(margin.grad, 3 * closed_form(z, alpha), **ROUNDING)


@pytest.mark.full
@pytest.mark.parametrize("half_width", [0.25, 0.5, 2.0])
def test_rectangle(half_width):
    """As SpikingJelly's, whose alpha is the height; at 0.5 the height is 1, and nothing passes at the edge itself."""
    z = torch.linspace(-3, 3, 49, dtype=torch.float64).requires_grad_()
    fire(z, Rectangle(half_width)).sum().backward()
    theirs = z.detach().clone().requires_grad_()
    rect = pytest.importorskip("spikingjelly.activation_based.surrogate").Rect
    rect(alpha=1 / (2 * half_width))(theirs).sum().backward()
    assert torch.equal(z.grad, theirs.grad)
    assert Rectangle(half_width).derivative(torch.tensor([half_width, 0.0])).tolist() == [0.0, 1 / (2 * half_width)]


@pytest.mark.parametrize("half_width", [0, -1.0, float("nan"), float("inf"), "wide", True])
def test_a_rectangle_without_width(half_width):
    with pytest.raises(InputError, match="half_width must be"):
        Rectangle(half_width)


def test_area_is_one():
    """All are densities: the surrogate of the step rises from 0 to 1. 1e-3: the tails of atan end at +-1000."""
    z = torch.linspace(-1000, 1000, 2_000_001, dtype=torch.float64)
    for surrogate in (Atan(), PiecewiseLinear(), Rectangle()):
        assert float(torch.trapezoid(surrogate.derivative(z), z)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("surrogate", "closed_form"), SURROGATES)
@pytest.mark.parametrize("case", NEURONS, ids=str)
def test_gradient_of_the_input(case: NeuronCase, surrogate, closed_form):
    """dL/dI = A^T (g s') - A_R^T (estimator'(E) B^T (g s')), s' the surrogate's derivative at the margin."""
    neuron, raw = case.make(7, tau=1.5, threshold=0.5)
    neuron.surrogate = surrogate(2.0)
    current, g = currents(7, 2, (3,)), currents(7, 2, (3,), seed=1)
    x = torch.from_numpy(current).requires_grad_()
    neuron(x).backward(torch.from_numpy(g))

    V, R, _ = raw(current)
    at_margin = g * closed_form(V - R - raw.threshold, 2.0)
    E = apply(raw.A_R, current) + raw.b_r[:, None, None]
    slope = np.ones_like(E) if raw.estimator is not sigmoid else sigmoid(E) * (1 - sigmoid(E))
    expected = apply(raw.A.T, at_margin) - apply(raw.A_R.T, slope * apply(raw.B.T, at_margin))
    np.testing.assert_allclose(x.grad, expected, **ROUNDING)


@pytest.mark.parametrize("case", [c for c in NEURONS if c.learned and "_psn" not in c.name], ids=str)
def test_gradient_of_the_learned_matrix(case: NeuronCase):
    """dL/dW[i, j] = sum of (what reaches row i) * I[j], for j <= i and nowhere else."""
    T = 6
    neuron, raw = case.make(T, threshold=0.5)
    current, g = currents(T, 2, (3,)), currents(T, 2, (3,), seed=1)
    neuron(torch.from_numpy(current)).backward(torch.from_numpy(g))

    V, R, _ = raw(current)
    at_margin = g * atan(V - R - raw.threshold, 2.0)
    E = apply(raw.A_R, current) + raw.b_r[:, None, None]
    slope = np.ones_like(E) if raw.estimator is not sigmoid else sigmoid(E) * (1 - sigmoid(E))
    through_reset = -slope * apply(raw.B.T, at_margin)
    reaching = np.zeros_like(g)
    if case.learned == "integrate":
        reaching += at_margin
    if case.learned == "estimate" or neuron.estimate is neuron.integrate:
        reaching += through_reset
    expected = np.einsum("ibf,jbf->ij", reaching, current)

    operator = getattr(neuron, case.learned)
    np.testing.assert_allclose(operator.entries.grad, expected[np.tril_indices(T)], **ROUNDING)
    if case.with_bias:
        np.testing.assert_allclose(operator.step_bias.grad, reaching.sum((1, 2)), **ROUNDING)


def test_default_is_the_papers_atan():
    assert PSU().surrogate == PSN(3).surrogate == Atan(alpha=2.0)
