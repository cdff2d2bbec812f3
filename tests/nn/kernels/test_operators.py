"""The operators in torch: schema and shapes, derivatives of derivatives, the compiler, autocast, half precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.kernels import operators, step_by_step
from psu_deploy.nn.neurons import PLIF, PSU, RPSU, Staircase
from tests.nn.kernels.neurons import ALL, currents, learned

UNIT = [0.6, 0.4], [], [0.5, 0.7], "sigmoid", None, [], 0.3, ">=", "none", 1.0
LEARNED = [], [], [0.5, 0.7], "staircase", torch.tensor([-0.5, 0.001, 0.6]), [0.25, 0.125], 0.3, ">", "atan", 2.0

CALLS = {
    "spiking_unit": [
        lambda x: (x, None, None, None, *UNIT),
        lambda x: (x, x.cos(), x.flatten(1)[:, 0], x.flatten(1).sum(1), *LEARNED),
    ],
    "lif": [
        lambda x: (x, None, 2.5, 0.4, False, False, False, ">", "rectangle", 0.8),
        lambda x: (x, x.mean().sigmoid(), 2.0, 0.4, True, True, True, ">=", "piecewise_linear", 1.3),
    ],
    "exponentials": [lambda x: (x, x.flatten()[:3], x.flatten()[3:6].sigmoid())],
}
EVERY_CALL = [(name, call) for name, calls in CALLS.items() for call in calls]


@pytest.mark.full
@pytest.mark.parametrize(("name", "call"), EVERY_CALL)
def test_torch_agrees_that_these_are_operators(name, call):
    """Schema, fake tensors and autograd registrations, by torch's own checks."""
    x = currents(5, 2, 8)
    inputs = tuple(v.detach().requires_grad_() if isinstance(v, torch.Tensor) else v for v in call(x))
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(getattr(torch.ops.psu_deploy, name).default, inputs, test_utils=checks)


@pytest.mark.parametrize(("name", "call"), EVERY_CALL)
def test_through_the_dispatcher_and_past_it(name, call):
    """What eager mode calls directly is what `torch.ops` calls, forward and back."""
    results = []
    for operator in (getattr(operators, name), getattr(torch.ops.psu_deploy, name)):
        x = currents(5, 2, 64).requires_grad_()
        y = operator(*call(x))
        y.backward(currents(5, 2, 64, seed=1))
        results.append((y, x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("operator", [operators.spiking_unit, torch.ops.psu_deploy.spiking_unit])
def test_derivatives_in_float64(operator):
    """A margin is differentiable any number of times; float64 is computed step by step."""
    x = currents(4, 1, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: operator(x, None, None, None, *UNIT).sin(), x)
    assert torch.autograd.gradgradcheck(lambda x: operator(x, None, None, None, *UNIT).sin(), x)


def test_derivatives_of_exponentials_in_float64():
    inputs = [v.double().requires_grad_() for v in (currents(4, 2), currents(3), torch.rand(3))]
    assert torch.autograd.gradcheck(operators.exponentials, inputs)
    assert torch.autograd.gradgradcheck(operators.exponentials, inputs)


@pytest.mark.parametrize("name", ["psu", "rpsu", "ppsu", "ipsu_exponentials", "PLIF-soft-True-False"])
def test_a_second_derivative_is_that_of_the_steps(name):
    neuron, x = learned(ALL[name](6)), currents(6, 2, 16).requires_grad_()

    def penalty():
        weights = torch.arange(x.numel()).view_as(x).float()
        (gradient,) = torch.autograd.grad((neuron(x) * weights).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [x, *neuron.parameters()])

    fused = penalty()
    with step_by_step():
        expected = penalty()
    for ours, theirs in zip(fused, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
        assert theirs.any()


def network():
    return learned(
        SpikingSequential(
            nn.Linear(6, 64),
            RPSU(5, bias=True),
            nn.Linear(64, 64),
            PLIF(),
            nn.Linear(64, 64),
            PSU(estimator=Staircase(15)),
            nn.Linear(64, 3),
            RPSU(5, temporal="exponentials"),
        )
    )


def aot_eager(graph, example):
    from torch._dynamo.backends.debugging import aot_eager

    return aot_eager(graph, example)


def outcome(run, net, x):
    net.zero_grad()
    y = run(x)
    (y * torch.arange(y.numel()).view_as(y)).sum().backward()
    return y.detach(), [p.grad.clone() for p in net.parameters()]


class Seen:
    """A backend that notes which fused operators the graphs hold, and runs them as they are."""

    def __init__(self):
        self.operators = []

    def __call__(self, graph, example):
        named = [str(node.target) for node in graph.graph.nodes]
        self.operators += [name.split(".")[1] for name in named if name.startswith("psu_deploy.")]
        return aot_eager(graph, example)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does it itself
def test_one_graph_with_the_operators_in_it():
    """RPSU, PLIF, PSU with a staircase, and RPSU behind a sum of exponentials."""
    net, x, seen = network(), currents(5, 4, 6), Seen()
    eager, found = outcome(net, net, x), outcome(torch.compile(net, fullgraph=True, backend=seen), net, x)
    assert seen.operators == ["spiking_unit", "lif", "spiking_unit", "exponentials", "spiking_unit"]
    assert torch.equal(found[0], eager[0])
    for ours, theirs in zip(found[1], eager[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does it itself
@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_as_one_graph(autocast):
    net, x = network(), currents(5, 4, 6)
    compiled = torch.compile(net, fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        eager, found = outcome(net, net, x), outcome(compiled, net, x)
    assert torch.equal(found[0], eager[0])
    for ours, theirs in zip(found[1], eager[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2 if autocast else 1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["psu", "rpsu", "ipsu_exponentials", "PLIF-hard-True-False"])
def test_half_precision_is_decided_in_float32(name, dtype):
    neuron, x = learned(ALL[name](7)), currents(7, 2, 64).to(dtype).requires_grad_()
    spikes = neuron(x)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), neuron(x.float()))
    spikes.sum().backward()
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("name", ["psu", "rpsu", "ipsu_exponentials", "PLIF-hard-True-False"])
def test_autocast_does_not_reach_inside(name):
    neuron, x = learned(ALL[name](7)), currents(7, 2, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(neuron(x), neuron(x.float()))
        under = neuron(x)
    assert torch.equal(under, neuron(x))
