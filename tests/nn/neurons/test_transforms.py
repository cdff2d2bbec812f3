"""Neurons under `torch.func`: what a transform gives is what plain autograd gives, sample by sample."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSN, PSU, RPSU, Atan, PiecewiseLinear, SigmoidTable, Staircase
from psu_deploy.nn.quantisation import Int8Weight
from psu_deploy.nn.temporal import CausalMatrix
from tests.helpers import EVERY_NEURON, currents

T, B, N = 6, 4, 3

NEURONS = {case.name: lambda case=case: case.make(T, tau=3.0, threshold=0.5)[0] for case in EVERY_NEURON} | {
    "psn": lambda: PSN(T).double(),
    "staircase": lambda: RPSU(T, estimator=Staircase(3)).double().eval(),
    "table": lambda: RPSU(T, bias=True, estimator=SigmoidTable()).double().eval(),
    "exponentials": lambda: IPSU(T, bias=True, temporal="exponentials").double().eval(),
    "piecewise linear": lambda: PSU(surrogate=PiecewiseLinear(0.5)).double().eval(),
}
"""Modules in float64."""

DETERMINISTIC = [name for name in NEURONS if name != "spsn"]
"""The noise of the other depends on how many samples there are, by design: it is numbered over the batch."""

SUMS = {"rtol": 1e-12, "atol": 1e-12}
"""The samples of a batch are summed in another order."""


def sequences():
    return torch.from_numpy(currents(T, B, (N,)))


def network(name):
    torch.manual_seed(0)
    return SpikingSequential(nn.Linear(N, 5).double(), NEURONS[name](), nn.Linear(5, 2).double())


def loss(parameters, net, x):
    """Of one sample (T, features)."""
    return functional_call(net, parameters, (x[:, None],)).square().sum()


@pytest.mark.full
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_gradients_per_sample(name):
    """vmap(grad) against a loop over the samples."""
    net, x = network(name), sequences()
    together = vmap(grad(loss), in_dims=(None, None, 1))(dict(net.named_parameters()), net, x)
    for sample in range(B):
        net.zero_grad()
        net(x[:, sample : sample + 1]).square().sum().backward()
        for path, parameter in net.named_parameters():
            torch.testing.assert_close(together[path][sample], parameter.grad, **SUMS)


@pytest.mark.full
@pytest.mark.parametrize("name", NEURONS)
def test_the_jacobian(name):
    """jacrev against the one of plain autograd, which walks row by row."""
    neuron, x = NEURONS[name](), sequences()
    transformed = jacrev(neuron)(x)
    assert transformed.any()
    torch.testing.assert_close(transformed, torch.autograd.functional.jacobian(neuron, x), **SUMS)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_the_gradient_is_the_surrogates(alpha):
    """Of PSU at T = 1, where the margin is gain * I - V_th, from the closed form."""
    neuron, x = PSU(tau=4.0, surrogate=Atan(alpha)), sequences()[:1]
    z = x / 4.0 - 1.0
    expected = (alpha / 2) / (1 + (torch.pi / 2 * alpha * z) ** 2) / 4.0
    torch.testing.assert_close(grad(lambda x: neuron(x).sum())(x), expected, **SUMS)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_many_sequences_at_once(name, dim):
    """vmap of the neuron alone, whichever axis the sequences are counted along."""
    neuron = NEURONS[name]()
    several = torch.stack([sequences() * scale for scale in (0.5, 1.0, 2.0)], dim)
    together = vmap(neuron, in_dims=dim)(several)
    for index, one in enumerate(several.unbind(dim)):
        assert torch.equal(together[index], neuron(one))


@pytest.mark.parametrize("name", NEURONS)
def test_an_ensemble(name):
    """Several networks as one: parameters and buffers have a first axis more, constants too."""
    members = []
    for seed in range(3):
        members.append(network(name))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in members[-1].parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            for path, buffer in members[-1].named_buffers():
                buffer.add_(seed if "seed_buffer" in path else 0)
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")
    x = sequences()
    together = vmap(lambda p, b: functional_call(skeleton, (p, b), (x,)))(parameters, buffers)
    alone = torch.stack([member(x) for member in members])
    torch.testing.assert_close(together, alone, **SUMS)
    assert not torch.equal(alone[0], alone[1])


def test_a_banded_matrix():
    operator, x = CausalMatrix(T, order=3, init="kaiming").double(), sequences()
    torch.testing.assert_close(jacrev(operator)(x), torch.autograd.functional.jacobian(operator, x), **SUMS)


def test_weights_of_eight_bits():
    weights = torch.randn(3, 4, 5)
    assert torch.equal(vmap(Int8Weight())(weights), torch.stack([Int8Weight()(w) for w in weights]))
    assert torch.equal(grad(lambda w: (Int8Weight()(w) * 2).sum())(weights), torch.full_like(weights, 2))


def test_a_neuron_still_works_on_what_a_transform_left_behind():
    """A tensor that escaped from a transform is as dead as its level; the spikes of it are right all the same."""
    neuron, kept, x = PSU(), [], sequences()
    grad(lambda x: (kept.append(x * 2), neuron(x).sum())[1])(x)
    assert torch.equal(neuron(kept[0]), neuron(x * 2))
