"""The table in the sigmoid's place: its values, its gradient, and neurons that use it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.nn.neurons import IPSU, PPSU, PSU, RPSU, SigmoidTable
from tests.helpers import ROUNDING, Array, RawNeuron, apply, currents, leak_matrix, strict_leak_matrix

UNITS = {
    "psu": lambda T, **k: PSU(2.0, 0.5, **k),
    "ipsu": lambda T, **k: IPSU(T, 2.0, 0.5, **k),
    "rpsu": lambda T, **k: RPSU(T, 2.0, 0.5, **k),
    "ppsu": lambda T, **k: PPSU(T, 2.0, 0.5, **k),
}
every_unit = pytest.mark.parametrize("unit", UNITS)
KNOTS = np.rint(4096 * scipy.special.expit(np.arange(65) / 4 - 8))


def table(E: Array) -> Array:
    """64 straight pieces; argument and value rounded down. Every number here is exact in float64."""
    place = np.clip(np.floor(E * 1024), -8192, 8191) + 8192
    piece = (place // 256).astype(int)
    rise = KNOTS[piece + 1] - KNOTS[piece]
    return (KNOTS[piece] + np.floor(rise * (place % 256) / 256)) / 4096


EDGES = np.arange(-8200, 8200) / 1024
"""Every place of the table, and some beyond."""


# -- the function ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_its_values(dtype):
    """On a grid, at every place of the table, and one float before and behind it."""
    edges = EDGES.astype(dtype)
    E = np.concatenate([np.linspace(-20, 20, 5001).astype(dtype), edges])
    E = np.concatenate([E, np.nextafter(edges, dtype(-np.inf)), np.nextafter(edges, dtype(np.inf))])
    found = SigmoidTable()(torch.from_numpy(E)).numpy()
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, table(E.astype(np.float64)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_what_is_very_large_and_what_is_no_number(dtype):
    largest, nan = torch.finfo(dtype).max, float("nan")
    x = torch.tensor([-float("inf"), -largest, nan, largest, float("inf"), 0.0, -0.0], dtype=dtype)
    low, high = torch.tensor([1 / 4096, 4094 / 4096]).to(dtype).tolist()
    found = SigmoidTable()(x).tolist()
    assert found[:2] == [low] * 2
    assert np.isnan(found[2])
    assert found[3:] == [high, high, 0.5, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_its_place(dtype):
    x = torch.linspace(-9, 9, 1001).to(dtype)
    assert torch.equal(SigmoidTable()(x), torch.from_numpy(table(x.double().numpy())).to(dtype))


def test_distance_to_the_sigmoid():
    E = np.concatenate([np.linspace(-40, 40, 100_001), EDGES, np.nextafter(EDGES, -np.inf)])
    distance = np.abs(SigmoidTable()(torch.from_numpy(E)).numpy() - scipy.special.expit(E)).max()
    assert SigmoidTable().sup_error == pytest.approx(distance, rel=1e-9)
    assert SigmoidTable().sup_error < 0.0012


def test_gradient_is_that_of_the_sigmoid():
    E = np.linspace(-10, 10, 241)
    x = torch.from_numpy(E).requires_grad_()
    (SigmoidTable()(x) * 3.0).sum().backward()
    h = 1e-6
    slope = (scipy.special.expit(E + h) - scipy.special.expit(E - h)) / (2 * h)
    np.testing.assert_allclose(x.grad, 3 * slope, atol=1e-9)


def test_takes_what_is_not_contiguous():
    x = torch.randn(4, 3, 2).transpose(0, 2)
    assert torch.equal(SigmoidTable()(x), SigmoidTable()(x.contiguous()))


# -- the module --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double, copy.deepcopy])
def test_no_cast_rounds_the_table(cast):
    E = torch.from_numpy(EDGES)
    np.testing.assert_array_equal(cast(nn.Sequential(SigmoidTable()))(E), table(EDGES))


def test_adds_nothing_to_a_state_dict():
    plain, looked_up = RPSU(4), RPSU(4, estimator=SigmoidTable())
    assert plain.state_dict().keys() == looked_up.state_dict().keys()
    assert list(SigmoidTable().parameters()) == []


def test_can_be_made_without_memory_and_filled():
    with torch.device("meta"):
        looked_up = nn.Sequential(SigmoidTable()).to("meta")
    np.testing.assert_array_equal(looked_up.to_empty(device="cpu")(torch.from_numpy(EDGES)), table(EDGES))


def test_nobody_can_change_another_s_table():
    first = SigmoidTable()
    first._values.zero_()
    assert SigmoidTable()(torch.zeros(1)).tolist() == [0.5]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_follows_its_neuron_to_the_gpu():
    neuron, x = PSU(estimator=SigmoidTable()), torch.from_numpy(currents(9, 2, (3,)))
    assert torch.equal(copy.deepcopy(neuron).cuda()(x.cuda()).cpu(), neuron(x))


# -- neurons -----------------------------------------------------------------------------------------------------


def randomised(unit: str, T: int, seed: int = 0):
    """A neuron in float64 with a random matrix, and its mathematics."""
    W = np.tril(np.random.default_rng(seed).normal(0.2, 0.8, (T, T)))
    neuron = UNITS[unit](T, estimator=SigmoidTable()).double()
    learned = {"ipsu": "integrate", "ppsu": "integrate", "rpsu": "estimate"}.get(unit)
    if learned is not None:
        getattr(neuron, learned).set_matrix(W)
    A, none = leak_matrix(T, 0.5, 0.5), np.zeros(T)
    A_I, A_R = (W if unit in ("ipsu", "ppsu") else A), (W if unit in ("rpsu", "ppsu") else A)
    return neuron, RawNeuron(A_I, none, A_R, none, strict_leak_matrix(T, 0.5, 0.5), table, 0.5, ">=")


@every_unit
@pytest.mark.parametrize("T", [1, 2, 9, 63])
def test_equals_the_matrices(unit, T):
    neuron, raw = randomised(unit, T)
    current = currents(T, 3, (5,))
    V, R, S = raw(current)
    potential, reset = neuron.potentials(torch.from_numpy(current))
    np.testing.assert_allclose(potential.detach(), V, **ROUNDING)
    np.testing.assert_allclose(reset.detach(), R, **ROUNDING)
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach(), S)


@every_unit
def test_gradient_of_the_input(unit):
    """dL/dI = A^T (g s') - A_R^T (sigmoid'(E) B^T (g s')), Atan's s' at the margin of the table."""
    neuron, raw = randomised(unit, 7)
    current, g = currents(7, 2, (3,)), currents(7, 2, (3,), seed=1)
    x = torch.from_numpy(current).requires_grad_()
    neuron(x).backward(torch.from_numpy(g))
    at_margin = g / (1 + (np.pi * raw.margin(current)) ** 2)
    sigmoid = scipy.special.expit(apply(raw.A_R, current))
    reaching = sigmoid * (1 - sigmoid) * apply(raw.B.T, at_margin)
    np.testing.assert_allclose(x.grad, apply(raw.A.T, at_margin) - apply(raw.A_R.T, reaching), **ROUNDING)


@every_unit
@pytest.mark.parametrize("T", [1, 2, 9, 63])
def test_the_machine_fires_alike(unit, T):
    """With noise and with silence."""
    neuron, _ = randomised(unit, T)
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
    """In float32 too: the second R is decay * (V_th S'), rounded by both alike."""
    model = psu.SpikingSequential(PSU(estimator=SigmoidTable()))
    machine = psu.to_state_machine(model, (1,))
    x = torch.linspace(-20, 20, 5001)[None, :, None].repeat(2, 1, 1)
    assert torch.equal(machine.trace(x).reset["0"], model[0].potentials(x)[1])
