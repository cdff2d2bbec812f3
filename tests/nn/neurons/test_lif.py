"""Gradients of LIF and PLIF through the loop and its reset, against the chain rule written out in float64 numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from psu_deploy.nn.neurons import LIF, PLIF, Atan
from tests.helpers import ROUNDING, currents

THRESHOLD = 0.7
OPTIONS = [
    {"reset": reset, "decay_input": decay, "detach_reset": detach}
    for reset, decay, detach in itertools.product(("soft", "hard"), (True, False), (True, False))
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))


def surrogate(z):
    """Atan, alpha = 2."""
    return 1 / (1 + (np.pi * z) ** 2)


def gradients(current, g, share, reset, decay_input, detach_reset):
    """dL/dI of every step and dL/d(share), where share = 1/tau and g = dL/dS: forward, then backward in time."""
    V, steps = np.zeros_like(current[0]), []
    for drive in current:
        H = V + (drive - V) * share if decay_input else V - V * share + drive
        S = (H >= THRESHOLD).astype(float)
        steps.append((V, drive, H, S))
        V = H - THRESHOLD * S if reset == "soft" else (1 - S) * H
    of_V, of_I, of_share = np.zeros_like(V), [], 0.0
    for (V, drive, H, S), g_t in zip(reversed(steps), g[::-1], strict=True):
        through_reset = 0.0 if detach_reset else of_V * (-THRESHOLD if reset == "soft" else -H)
        of_H = of_V * (1.0 if reset == "soft" else 1 - S) + (g_t + through_reset) * surrogate(H - THRESHOLD)
        of_I.append(of_H * (share if decay_input else 1.0))
        of_share += (of_H * (drive - V if decay_input else -V)).sum()
        of_V = of_H * (1 - share)
    return np.stack(of_I[::-1]), of_share


@every_option
@pytest.mark.parametrize("T", [1, 2, 63])
@pytest.mark.parametrize("unit", [LIF, PLIF])
def test_gradient(unit, T, options):
    tau = 4.0
    neuron = unit(tau, THRESHOLD, surrogate=Atan(2.0), **options).double()
    if unit is PLIF:
        torch.nn.init.constant_(neuron.w, -np.log(tau - 1))
    current, g = currents(T, 2, (3,)), currents(T, 2, (3,), seed=1)
    x = torch.from_numpy(current).requires_grad_()
    neuron(x).backward(torch.from_numpy(g))
    of_I, of_share = gradients(current, g, 1 / tau, **options)
    np.testing.assert_allclose(x.grad, of_I, **ROUNDING)
    if unit is PLIF:
        np.testing.assert_allclose(neuron.w.grad, of_share * (1 - 1 / tau) / tau, rtol=1e-9, atol=1e-9)


def test_detaching_matters():
    """Guards the above: on this input the gradient through the reset is not zero."""
    current, g = currents(9, 2, (3,)), currents(9, 2, (3,), seed=1)
    kept, cut = (gradients(current, g, 0.5, "hard", True, detach)[0] for detach in (False, True))
    assert np.abs(kept - cut).max() > 0.1


@pytest.mark.parametrize("tau", [1.5, 2.0, 16.0])
def test_plif_starts_as_lif_and_learns_its_tau(tau):
    plif, x = PLIF(tau), torch.from_numpy(currents(20, 3, (4,))).float()
    torch.testing.assert_close(plif.potentials(x)[0], LIF(tau).potentials(x)[0], rtol=1e-5, atol=1e-5)
    assert [name for name, _ in plif.named_parameters()] == ["w"]
    assert plif.w.ndim == 0
    assert list(LIF(tau).parameters()) == []


@pytest.mark.parametrize("unit", [LIF, PLIF])
def test_other_surrogates_do_not_change_the_spikes(unit):
    x = torch.from_numpy(currents(20, 3, (4,))).float()
    assert torch.equal(unit(surrogate=Atan(0.5))(x), unit()(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_plif_cast_to_half_precision_has_the_tau_its_w_says(dtype):
    """The weight holds 8 to 11 bits; what is computed from it should not lose more."""
    neuron = PLIF(2.0)
    torch.nn.init.constant_(neuron.w, -0.777)
    neuron, x = neuron.to(dtype), torch.from_numpy(currents(30, 3, (4,))).to(dtype)
    share = 1 / (1 + np.exp(-float(neuron.w.detach())))
    expected = LIF(1 / share).double().potentials(x.double())[0]
    torch.testing.assert_close(neuron.potentials(x)[0].double().detach(), expected, rtol=1e-5, atol=1e-5)
