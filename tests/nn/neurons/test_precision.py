"""Dtypes: a decision never hangs on the 11 bits of half precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSN, PSU, RPSU, Atan, SigmoidTable, Staircase
from tests.helpers import EVERY_NEURON, NeuronCase, currents

HALF = [torch.float16, torch.bfloat16]

MORE = {
    "psn": lambda T: PSN(T),
    "staircase": lambda T: RPSU(T, estimator=Staircase(3)),
    "table": lambda T: RPSU(T, bias=True, estimator=SigmoidTable()),
    "exponentials": lambda T: IPSU(T, bias=True, temporal="exponentials"),
}
"""Beside those that have a row of their own: T -> module."""

MAKERS = {case.name: lambda T, case=case: case.make(T, tau=3.0)[0].float() for case in EVERY_NEURON} | MORE


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("case", EVERY_NEURON, ids=str)
def test_half_precision_input_is_decided_in_float32(case: NeuronCase, dtype):
    neuron = case.make(9)[0].float()
    x = torch.from_numpy(currents(9, 2, (3,))).to(dtype)
    spikes = neuron(x)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), neuron(x.float()))


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
    assert torch.equal(PSU()(x).double(), exact), "and the neuron none"


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
@pytest.mark.parametrize("name", MAKERS)
def test_a_model_cast_to_half_precision_fires_as_its_rounded_numbers_do(name, dtype):
    """The parameters rounded once, everything else in float32; gradients have the parameters' dtype."""
    torch.manual_seed(0)
    T = 9
    cast = MAKERS[name](T).to(dtype)
    rounded = copy.deepcopy(cast).float()
    x = torch.from_numpy(currents(T, 4, (64,))).to(dtype).requires_grad_()
    torch.manual_seed(1)  # of the neuron that fires at random
    spikes = cast(x)
    torch.manual_seed(1)
    expected = rounded(x.detach().float())
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert 0 < float(spikes.detach().mean()) < 1
    spikes.sum().backward()
    for gradient in (x.grad, *(p.grad for p in cast.parameters())):
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("name", MAKERS)
def test_autocast_hands_half_precision_in_and_gets_it_back(name):
    """Between two linear layers, as in training; the gradients of the float32 parameters are float32."""
    torch.manual_seed(0)
    net = SpikingSequential(nn.Linear(6, 32), MAKERS[name](5), nn.Linear(32, 3))
    x = torch.from_numpy(currents(5, 4, (6,))).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        current = net[0](x)
        spikes, y = net[1](current), net(x)
    assert current.dtype == spikes.dtype == y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradient_of_a_model_in_half_precision(dtype):
    """dL/dI = A^T (g s'), computed in float32 and rounded once."""
    psu = PSU(threshold=100.0)  # the reset, scaled by it, takes part
    x = torch.tensor([[[198.0]], [[3.0]]], dtype=dtype, requires_grad=True)
    psu(x).sum().backward()
    wide = x.detach().float().requires_grad_()
    margin = psu.margin(wide)[2]
    margin.backward(Atan().derivative(margin.detach()))
    assert torch.equal(x.grad, wide.grad.to(dtype))


def test_a_convolution_over_neighbouring_steps_keeps_half_precision():
    assert TimeConv1d(3, 2, 3).bfloat16()(torch.zeros(5, 2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


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
