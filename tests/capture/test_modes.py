"""A model is captured in its eval form, whatever mode it is in, and is left exactly as it was."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from psu_deploy.capture import to_state_machine, trace_module
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PSU
from tests.helpers import Forward


@pytest.fixture
def model():
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), PSU(), nn.Linear(4, 2), nn.BatchNorm1d(2)]
    net = SpikingSequential(*layers).double()
    net(torch.randn(5, 8, 3, dtype=torch.float64))
    return net


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.full
def test_training_mode_is_captured_as_eval(model):
    assert to_state_machine(model.train(), (3,)).content_hash == to_state_machine(model.eval(), (3,)).content_hash


@pytest.mark.parametrize("frozen", [(), ("1",), ("1", "2")])
def test_modes_and_statistics_stay(model, frozen):
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()
    before, numbers = modes(model), copy.deepcopy(model.state_dict())
    machine = to_state_machine(model, (3,))
    trace_module(model, machine, torch.randn(5, 2, 3, dtype=torch.float64))
    assert modes(model) == before
    assert all(torch.equal(value, numbers[name]) for name, value in model.state_dict().items())


def test_modes_stay_when_capture_fails(model):
    model.add_module("6", nn.Tanhshrink())
    before = modes(model.train())
    with pytest.raises(UnsupportedModelError):
        to_state_machine(model, (3,))
    assert modes(model) == before


def test_batch_norm_uses_its_running_statistics(model):
    """(x - mean) / sqrt(var + eps) * weight + bias, by hand."""
    x = np.random.default_rng(0).standard_normal((1, 6, 3))
    linear, norm = model[0], model[1]
    W, b, mean, var, gamma, beta = (
        v.detach().numpy()
        for v in (linear.weight, linear.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    expected = (x @ W.T + b - mean) / np.sqrt(var + norm.eps) * gamma + beta
    machine = to_state_machine(SpikingSequential(linear, norm).train(), (3,))
    assert [type(node.layer).__name__ for node in machine.nodes] == ["Linear"]
    np.testing.assert_allclose(machine.run(x), expected, rtol=1e-12, atol=1e-12)


def test_forward_that_asks_for_its_mode():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.train_layer, self.eval_layer, self.neuron = nn.Linear(3, 4), nn.Linear(3, 4), PSU()

        def forward(self, x):
            current = self.train_layer(x) if self.training else self.eval_layer(x)
            return self.neuron(nn.functional.dropout(current, 0.5, self.training))

    machine = to_state_machine(Noisy().train(), (3,))
    assert [node.name for node in machine.nodes] == ["eval_layer", "neuron"]


def test_gradients_and_random_numbers_are_left_alone(model):
    generator = torch.get_rng_state()
    to_state_machine(model, (3,))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.full
def test_the_machine_keeps_its_own_numbers(model):
    machine = to_state_machine(model, (3,))
    digest, x = machine.content_hash, np.ones((4, 2, 3))
    before = machine.run(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert np.array_equal(machine.run(x), before)
    assert to_state_machine(model, (3,)).content_hash != digest


WITHOUT_THE_COMPILER = """
import sys, torch, psu_deploy as psu
from psu_deploy import capture

class Compiles(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.neuron = torch.nn.Linear(3, 4), psu.PSU()

    def forward(self, x):
        twice = torch.compile(lambda y: 2 * y, fullgraph=True)
        one_more = torch.compile(fullgraph=True)(lambda y: y + 1)
        return self.neuron(one_more(twice(self.linear(x))))

model = Compiles()
machine = psu.to_state_machine(model, (3,))
assert machine.spiking == ("neuron",), machine.spiking
assert "torch._dynamo" not in sys.modules
capture.trace_module(model, machine, torch.ones(2, 1, 3))
assert "torch._dynamo" not in sys.modules
assert torch.compile.__module__ == "torch"
"""


@pytest.mark.full
def test_the_compiler_is_not_imported():
    """It takes two seconds, and a network that compiles is run as it was written all the same."""
    script = [sys.executable, "-c", WITHOUT_THE_COMPILER]
    done = subprocess.run(script, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_rounded_to_fewer_bits():
    """What is allowed in training is not while a module is looked at, and is allowed again afterwards."""
    switch, seen = torch.backends.cudnn.conv, []
    before = switch.fp32_precision

    def forward(net, x):
        seen.append(switch.fp32_precision)
        return net.n(net.a(x))

    model = Forward(forward, a=nn.Linear(3, 3), n=PSU()).eval()
    switch.fp32_precision = "tf32"
    try:
        trace_module(model, to_state_machine(model, (3,)), torch.zeros(2, 1, 3))
        assert switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before
    assert set(seen) == {"ieee"}
