"""Neurons whose learned operator is a sum of exponentials instead of a T x T matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import IPSU, PPSU, RPSU, Staircase
from psu_deploy.nn.temporal import Exponentials
from tests.helpers import ROUNDING, RawNeuron, currents, leak_matrix, strict_leak_matrix

UNITS = {"ipsu": IPSU, "rpsu": RPSU, "ppsu": PPSU}
LEARNED = {"ipsu": "integrate", "rpsu": "estimate", "ppsu": "integrate"}
every_unit = pytest.mark.parametrize("unit", UNITS)
every_bias = pytest.mark.parametrize("bias", [False, True])


def make(unit: str, bias: bool, T: int, seed: int = 0):
    """A neuron in float64 with random numbers, and its matrices."""
    neuron = UNITS[unit](T, 4.0, 0.5, temporal="exponentials", terms=3, bias=bias).double()
    operator = getattr(neuron, LEARNED[unit])
    random = np.random.default_rng(seed)
    gains, logits, b = random.normal(0.2, 0.6, 3), random.normal(0.0, 2.0, 3), random.normal() if bias else 0.0
    with torch.no_grad():
        operator.gains.copy_(torch.from_numpy(gains))
        operator.decay_logits.copy_(torch.from_numpy(logits))
        if bias:
            operator.offset.fill_(b)
    W = sum(leak_matrix(T, g, d) for g, d in zip(gains, scipy.special.expit(logits), strict=True))
    A, none, biases = leak_matrix(T, 0.25, 0.75), np.zeros(T), np.full(T, b)
    B = strict_leak_matrix(T, 0.5, 0.75)
    integrate = (A, none) if unit == "rpsu" else (W, biases)
    estimate = (A, none) if unit == "ipsu" else (W, biases)
    return neuron, RawNeuron(*integrate, *estimate, B, scipy.special.expit, 0.5, ">=")


@every_unit
@every_bias
@pytest.mark.parametrize("T", [1, 2, 9, 63])
def test_equals_the_matrices(unit, bias, T):
    neuron, raw = make(unit, bias, T)
    current = currents(T, 3, (2, 2))
    V, R, S = raw(current)
    potential, reset = neuron.potentials(torch.from_numpy(current))
    np.testing.assert_allclose(potential.detach(), V, **ROUNDING)
    np.testing.assert_allclose(reset.detach(), R, **ROUNDING)
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach(), S)


@every_unit
@every_bias
def test_any_number_of_steps(unit, bias):
    neuron, _ = make(unit, bias, 4)
    assert neuron.horizon is None
    _, raw = make(unit, bias, 20)
    current = currents(20, 2, (3,))
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach(), raw(current)[2])


@every_unit
@every_bias
@pytest.mark.parametrize("estimator", [nn.Sigmoid(), Staircase(7), Staircase(14)], ids=str)
@pytest.mark.parametrize("T", [1, 2, 9, 63])
def test_the_machine_fires_alike(unit, bias, estimator, T):
    neuron, _ = make(unit, bias, T)
    neuron.estimator = estimator
    model = psu.SpikingSequential(nn.Linear(3, 8), neuron, nn.Linear(8, 2)).double().eval()
    machine = psu.to_state_machine(model, (3,))
    assert machine.max_steps is None
    x = torch.from_numpy(np.random.default_rng(2).normal(0.5, 3.0, (T, 4, 3)))
    ours, serial = trace_module(model, machine, x), machine.trace(x)
    for name in machine.spiking:
        assert torch.equal(ours.spikes[name], serial.spikes[name])
        np.testing.assert_allclose(ours.potential[name], serial.potential[name], **ROUNDING)


@every_unit
@every_bias
@pytest.mark.parametrize("terms", [1, 4])
def test_starts_near_the_leak(unit, bias, terms):
    """The first term is the leak; each of the others adds 0.01 at most. 1e-6: the parameters are float32."""
    neuron = UNITS[unit](9, 4.0, temporal="exponentials", terms=terms, bias=bias)
    operator = getattr(neuron, LEARNED[unit])
    leak = leak_matrix(9, 0.25, 0.75)
    np.testing.assert_allclose(
        operator.gains[0].item() * np.array(operator.decays[0].item()) ** 2, leak[2, 0], atol=1e-6
    )
    assert np.abs(operator.matrix(9).numpy() - leak).max() <= 0.01 * (terms - 1) + 1e-6
    assert operator.gains.numel() == terms
    assert (operator.offset is not None) == bias
    np.testing.assert_array_equal(operator.bias(9), np.zeros(9))


@every_unit
@every_bias
def test_everything_learns(unit, bias):
    neuron = UNITS[unit](9, temporal="exponentials", bias=bias, threshold=0.5)
    neuron(torch.from_numpy(currents(9, 4, (5,))).float()).sum().backward()
    parameters = dict(neuron.named_parameters())
    assert len(parameters) == (3 if bias else 2)
    for name, parameter in parameters.items():
        assert (parameter.grad != 0).all(), name


@every_unit
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_decided_in_float32(unit, dtype):
    neuron, x = make(unit, True, 9)[0].float(), torch.from_numpy(currents(9, 2, (3,))).to(dtype)
    assert torch.equal(neuron(x).float(), neuron(x.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(neuron(x.float()), neuron(x).float())
    assert neuron.to(dtype)(x).dtype == dtype


@every_unit
def test_float64_input_to_float32_parameters_is_computed_in_float64(unit):
    neuron, x = make(unit, True, 9)[0].float(), torch.from_numpy(currents(9, 2, (3,)))
    potentials = neuron.potentials(x)
    for mixed, exact in zip(potentials, neuron.double().potentials(x), strict=True):
        torch.testing.assert_close(mixed, exact, rtol=1e-12, atol=1e-12)


@every_unit
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temporal": "leak"}, 'temporal must be "matrix" or "exponentials", got \'leak\''),
        ({"init": "kaiming"}, 'init=\'kaiming\' fills a matrix; with temporal="exponentials" use init="leak"'),
        ({"init": "zeros"}, 'init must be "leak" or "kaiming", got'),
        ({"terms": 0}, "terms must be at least 1, got 0"),
        ({"terms": 2.5}, "terms must be a whole number, got 2.5"),
        ({"T": 0}, "need steps >= 1"),
    ],
)
def test_refusals(unit, wrong, message):
    with pytest.raises(InputError, match=message):
        UNITS[unit](**{"T": 4, "temporal": "exponentials"} | wrong)


@every_unit
def test_a_leak_without_memory(unit):
    """tau = 1: the decay starts at 0.001, where it can still learn."""
    operator = getattr(UNITS[unit](4, 1.0, temporal="exponentials"), LEARNED[unit])
    assert isinstance(operator, Exponentials)
    assert operator.decays[0].item() == pytest.approx(0.001)
