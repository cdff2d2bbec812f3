"""The staircase in the sigmoid's place: its steps, its distance, its gradient, and neurons that use it."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import IPSU, PPSU, PSU, RPSU, Staircase
from tests.helpers import ROUNDING, Array, RawNeuron, apply, currents, leak_matrix, strict_leak_matrix

LEVELS = [1, 2, 3, 7, 14, 15, 255]
every_level = pytest.mark.parametrize("levels", LEVELS)

UNITS = {
    "psu": lambda T, **k: PSU(2.0, 0.5, **k),
    "ipsu": lambda T, **k: IPSU(T, 2.0, 0.5, **k),
    "rpsu": lambda T, **k: RPSU(T, 2.0, 0.5, **k),
    "ppsu": lambda T, **k: PPSU(T, 2.0, 0.5, **k),
}
every_unit = pytest.mark.parametrize("unit", UNITS)


def thresholds(levels: int) -> Array:
    """logit(k/(K+1)) in float32, and 0.001 instead of 0."""
    rounded = scipy.special.logit(np.arange(1, levels + 1) / (levels + 1)).astype(np.float32)
    return np.where(np.abs(rounded) < 1e-6, np.float32(0.001), rounded).astype(np.float64)


def staircase(E: Array, levels: int) -> Array:
    count = (E[..., None] >= thresholds(levels)).sum(-1)
    return (count + 0.5) / (levels + 1)


# -- the function ------------------------------------------------------------------------------------------------


@every_level
def test_its_numbers(levels):
    stairs = Staircase(levels)
    np.testing.assert_allclose(stairs.thresholds, thresholds(levels), rtol=2e-7)
    assert stairs.thresholds.dtype == torch.float64
    assert torch.equal(stairs.thresholds.float().double(), stairs.thresholds), "float32 numbers"
    assert (stairs.levels, stairs.height, stairs.offset) == (levels, 1 / (levels + 1), 0.5 / (levels + 1))
    assert repr(stairs) == f"Staircase(levels={levels})"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_level
def test_counts_its_thresholds(levels, dtype):
    """On a grid, at every threshold, and one float before and behind it."""
    stairs = Staircase(levels)
    edges = stairs.thresholds.to(dtype).numpy()
    E = np.concatenate([np.linspace(-9, 9, 1001).astype(dtype=edges.dtype), edges])
    E = np.concatenate([E, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf), [-np.inf, np.inf]])
    E = E.astype(edges.dtype)
    counted = (E[:, None] >= edges).sum(1)
    value = stairs(torch.from_numpy(E))
    assert value.dtype == dtype
    np.testing.assert_allclose(value, (counted + 0.5) / (levels + 1), rtol=1e-6 if dtype == torch.float32 else 1e-14)


@every_level
def test_distance_to_the_sigmoid(levels):
    """The bound, and the value itself on a fine grid that holds both sides of every threshold."""
    stairs = Staircase(levels)
    edges = stairs.thresholds.numpy()
    E = np.concatenate([np.linspace(-40, 40, 100_001), edges, np.nextafter(edges, -np.inf)])
    distance = np.abs(stairs(torch.from_numpy(E)).numpy() - scipy.special.expit(E)).max()
    assert stairs.sup_error == pytest.approx(distance, rel=1e-9)
    assert 0.5 / (levels + 1) <= stairs.sup_error + 1e-8
    assert stairs.sup_error <= 0.5 / (levels + 1) + (2.6e-4 if levels % 2 else 1e-7)


@every_level
def test_rises_and_stays_inside(levels):
    value = Staircase(levels)(torch.linspace(-50, 50, 10_001, dtype=torch.float64))
    assert (value.diff() >= 0).all()
    assert ((value > 0) & (value < 1)).all()
    assert len(value.unique()) == levels + 1


@every_level
def test_silence_is_not_at_an_edge(levels):
    """What rounding makes of silence, 1e-4 on either side, is one and the same value."""
    near = torch.tensor([-1e-4, -0.0, 0.0, 1e-4], dtype=torch.float64)
    assert len(Staircase(levels)(near).unique()) == 1
    assert np.abs(thresholds(levels)).min() >= 9e-4


@pytest.mark.parametrize("levels", [3, 7, 15])
def test_dyadic_potentials_meet_no_threshold(levels):
    """Leaks of halves and quarters stay multiples of 2^-20 for long: none of them is a threshold."""
    scaled = Staircase(levels).thresholds * 2**20
    assert (scaled != scaled.round()).all()


@every_level
def test_gradient_is_that_of_the_sigmoid(levels):
    E = np.linspace(-6, 6, 241)
    x = torch.from_numpy(E).requires_grad_()
    (Staircase(levels)(x) * 3.0).sum().backward()
    h = 1e-6
    slope = (scipy.special.expit(E + h) - scipy.special.expit(E - h)) / (2 * h)
    np.testing.assert_allclose(x.grad, 3 * slope, atol=1e-9)


def test_takes_what_is_not_contiguous():
    x = torch.randn(4, 3, 2).transpose(0, 2)
    assert torch.equal(Staircase(7)(x), Staircase(7)(x.contiguous()))


# -- the module --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double, copy.deepcopy])
def test_no_cast_rounds_the_thresholds(cast):
    stairs = cast(nn.Sequential(Staircase(15)))[0]
    E = torch.tensor(thresholds(15))
    assert torch.equal(stairs(E), Staircase(15)(E))


def test_adds_nothing_to_a_state_dict():
    plain, stairs = RPSU(4), RPSU(4, estimator=Staircase(15))
    assert plain.state_dict().keys() == stairs.state_dict().keys()
    stairs.load_state_dict(plain.state_dict())
    assert list(Staircase(15).parameters()) == []


def test_can_be_made_without_memory_and_filled():
    with torch.device("meta"):
        stairs = Staircase(15)
    E = torch.tensor(thresholds(15))
    assert torch.equal(stairs.to_empty(device="cpu")(E), Staircase(15)(E))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_follows_its_neuron_to_the_gpu():
    neuron, x = PSU(estimator=Staircase(15)), torch.from_numpy(currents(9, 2, (3,)))
    assert torch.equal(copy.deepcopy(neuron).cuda()(x.cuda()).cpu(), neuron(x))


@pytest.mark.parametrize("levels", [0, -1, 256])
def test_levels(levels):
    with pytest.raises(InputError, match=rf"levels must be a whole number in 1..255, got {levels}"):
        Staircase(levels)


@pytest.mark.parametrize("levels", [15.0, "15", None, True])
def test_levels_that_are_no_number(levels):
    with pytest.raises(InputError, match="levels must be a whole number, got"):
        Staircase(levels)


# -- neurons -----------------------------------------------------------------------------------------------------


def randomised(unit: str, T: int, levels: int, seed: int = 0):
    """A neuron in float64 with a random matrix, and its mathematics."""
    W = np.tril(np.random.default_rng(seed).normal(0.2, 0.8, (T, T)))
    neuron = UNITS[unit](T, estimator=Staircase(levels)).double()
    learned = {"ipsu": "integrate", "ppsu": "integrate", "rpsu": "estimate"}.get(unit)
    if learned is not None:
        getattr(neuron, learned).set_matrix(W)
    A, none = leak_matrix(T, 0.5, 0.5), np.zeros(T)
    A_I, A_R = (W if unit in ("ipsu", "ppsu") else A), (W if unit in ("rpsu", "ppsu") else A)
    B = strict_leak_matrix(T, 0.5, 0.5)
    return neuron, RawNeuron(A_I, none, A_R, none, B, lambda E: staircase(E, levels), 0.5, ">=")


@every_unit
@pytest.mark.parametrize("levels", [1, 3, 7, 14, 15])
@pytest.mark.parametrize("T", [1, 2, 9, 63])
def test_equals_the_matrices(unit, levels, T):
    neuron, raw = randomised(unit, T, levels)
    current = currents(T, 3, (5,))
    V, R, S = raw(current)
    potential, reset = neuron.potentials(torch.from_numpy(current))
    np.testing.assert_allclose(potential.detach(), V, **ROUNDING)
    np.testing.assert_allclose(reset.detach(), R, **ROUNDING)
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach(), S)


@every_unit
@pytest.mark.parametrize("levels", [3, 7, 15])
def test_silence_is_no_tie(unit, levels):
    neuron, raw = randomised(unit, 63, levels)
    np.testing.assert_allclose(
        neuron.potentials(torch.zeros(63, 2, 3).double())[1].detach(), raw(np.zeros((63, 2, 3)))[1]
    )


@every_unit
def test_gradient_of_the_input(unit):
    """dL/dI = A^T (g s') - A_R^T (sigmoid'(E) B^T (g s')), Atan's s' at the margin of the staircase."""
    neuron, raw = randomised(unit, 7, 15)
    current, g = currents(7, 2, (3,)), currents(7, 2, (3,), seed=1)
    x = torch.from_numpy(current).requires_grad_()
    neuron(x).backward(torch.from_numpy(g))
    at_margin = g / (1 + (np.pi * raw.margin(current)) ** 2)
    sigmoid = scipy.special.expit(apply(raw.A_R, current))
    reaching = sigmoid * (1 - sigmoid) * apply(raw.B.T, at_margin)
    np.testing.assert_allclose(x.grad, apply(raw.A.T, at_margin) - apply(raw.A_R.T, reaching), **ROUNDING)


@every_unit
@pytest.mark.parametrize(("T", "levels"), list(itertools.product([1, 2, 9, 63], [3, 14, 15])))
def test_the_machine_fires_alike(unit, T, levels):
    """In float64 and in float32, with noise and with silence."""
    neuron, _ = randomised(unit, T, levels)
    model = psu.SpikingSequential(nn.Linear(3, 8), neuron, nn.Linear(8, 2)).double().eval()
    machine = psu.to_state_machine(model, (3,))
    noise = torch.from_numpy(np.random.default_rng(2).normal(0.5, 3.0, (T, 4, 3)))
    for x in (noise, torch.zeros_like(noise)):
        ours, serial = trace_module(model, machine, x), machine.trace(x)
        assert list(ours.spikes) == list(serial.spikes) == list(machine.spiking)
        for name in machine.spiking:
            assert torch.equal(ours.spikes[name], serial.spikes[name])
            np.testing.assert_allclose(ours.reset[name], serial.reset[name], **ROUNDING)


def test_the_machine_gives_the_very_same_value():
    """In float32 too: count*height + offset, rounded twice, by both."""
    model = psu.SpikingSequential(PSU(estimator=Staircase(14)))
    machine = psu.to_state_machine(model, (1,))
    x = torch.linspace(-6, 6, 501)[None, :, None].repeat(2, 1, 1)
    assert torch.equal(machine.trace(x).reset["0"], model[0].potentials(x)[1])


@every_unit
def test_is_used_by_default_nowhere(unit):
    assert type(UNITS[unit](4).estimator) is nn.Sigmoid


@every_unit
@pytest.mark.parametrize("estimator", [Staircase, "staircase", 15, torch.sigmoid])
def test_an_estimator_is_a_module(unit, estimator):
    with pytest.raises(InputError, match=r"estimator must be a module such as Staircase\(levels=15\), or None, got"):
        UNITS[unit](4, estimator=estimator)


def test_what_resets_by_the_current_has_no_estimator():
    with pytest.raises(InputError, match='reset_input="current" resets by the current itself and takes no estimator'):
        IPSU(4, reset_input="current", estimator=Staircase(15))


@pytest.mark.full
def test_learns():
    """A network with a staircase lowers its loss: the gradient passes through."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(4, 32), RPSU(6, threshold=0.3, estimator=Staircase(7)), nn.Linear(32, 2))
    x = torch.randn(6, 64, 4)
    labels = (x.sum((0, 2)) > 0).long()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x).mean(0), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert bool((model[1].estimate.entries.grad != 0).any())
