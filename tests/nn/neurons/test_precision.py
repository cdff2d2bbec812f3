"""Dtypes: a decision never hangs on the 11 bits of half precision."""

from __future__ import annotations

import pytest
import torch

from psu_deploy.nn.neurons import PSU
from tests.helpers import EVERY_NEURON, NeuronCase, currents

HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_half_precision_input_is_decided_in_float32(case: NeuronCase, dtype):
    neuron = case.make(9)[0].float()
    x = torch.from_numpy(currents(9, 2, (3,))).to(dtype)
    spikes = neuron(x)
    assert spikes.dtype == torch.float32
    assert torch.equal(spikes, neuron(x.float()))


@pytest.mark.parametrize("dtype", HALF)
def test_margins_that_half_precision_cannot_hold(dtype):
    """Sweeps x[1] over the threshold, V[1] = R[1] + 1, in steps of one half-precision ulp."""
    first = torch.linspace(1, 3, 21).to(dtype)
    crossing = 2 + torch.sigmoid(first.double() / 2) - first.double() / 2
    sweep = (crossing[:, None] + torch.arange(-8, 9) * torch.finfo(dtype).eps).to(dtype)
    x = torch.stack([first[:, None].expand_as(sweep), sweep])
    exact = PSU()(x.double())
    in_half = (x[0] / 2 + x[1]) / 2 - torch.sigmoid(x[0] / 2) / 2 - 1 >= 0
    assert not torch.equal(in_half.double(), exact[1]), "half precision must get some of them wrong"
    assert torch.equal(PSU()(x).double(), exact)


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_autocast_does_not_reach_the_decision(case: NeuronCase):
    neuron = case.make(9)[0].float()
    x = torch.from_numpy(currents(9, 2, (3,))).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spikes, potentials = neuron(x), neuron.potentials(x)
    assert spikes.dtype == torch.float32
    for under_autocast, plain in zip(potentials, neuron.potentials(x), strict=True):
        assert torch.equal(under_autocast, plain)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_a_model_cast_to_half_precision(case: NeuronCase, dtype):
    neuron = case.make(5)[0].to(dtype)
    assert neuron(torch.from_numpy(currents(5, 2, (3,))).to(dtype)).dtype == torch.float32


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_float64_input_to_float32_parameters_is_computed_in_float64(case: NeuronCase):
    neuron, x = case.make(9, tau=3.0)[0].float(), torch.from_numpy(currents(9, 2, (3,)))
    potentials = neuron.potentials(x)
    for mixed, exact in zip(potentials, neuron.double().potentials(x), strict=True):
        assert mixed.dtype == torch.float64
        torch.testing.assert_close(mixed, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_keeps_float64(case: NeuronCase):
    assert case.make(5)[0](torch.from_numpy(currents(5, 2, (3,)))).dtype == torch.float64
