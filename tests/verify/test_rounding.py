"""The rounding bound holds for every way of computing a decision, and is tight enough to mean something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import operators as o
from psu_deploy.verify import certify
from psu_deploy.verify.rounding import rounding_bounds
from tests.exporters.onnx.machines import MACHINES, chain, inputs, random_state, steps_of
from tests.verify.networks import RANDOM, examples, randomised


def double(values):
    return {name: torch.tensor(np.asarray(value), dtype=torch.float64) for name, value in values.items()}


def excess(machine, x, trace, state=None, precision="float32"):
    """Largest |margin - exact margin| - bound, and the same of the output; exact given the trace's own spikes."""
    exact_x, spikes = torch.tensor(np.asarray(x), dtype=torch.float64), double(trace.spikes)
    start = machine.initial_state(x.shape[1]) if state is None else state
    start = {
        n: torch.tensor(v, dtype=torch.float64 if machine.state_spec[n].batched else torch.int64)
        for n, v in start.items()
    }
    exact = machine.trace(exact_x, start, spikes=spikes)
    bounds = rounding_bounds(machine, exact_x, spikes, start, precision)
    output = torch.tensor(np.asarray(trace.output), dtype=torch.float64)
    over = [(output - exact.output[-len(output) :]).abs() - bounds.output[-len(output) :]]
    for name, margin in double(trace.margin).items():
        started = machine.starts[name]  # before it nothing is decided
        over.append(((margin - exact.margin[name]).abs() - bounds.margin[name])[started:])
    return max(float(value.max()) for value in over)


@given(example=examples())
@settings(max_examples=25, **RANDOM)
def test_it_holds_for_module_and_machine(example):
    machine = psu.to_state_machine(example.model, tuple(example.x.shape[2:]))
    x = example.x.numpy()
    assert excess(machine, x, machine.trace(x)) <= 0
    assert excess(machine, x, trace_module(example.model, machine, example.x)) <= 0


@pytest.mark.parametrize("name", MACHINES)
def test_it_holds_for_onnxruntime_from_any_state(name, tmp_path):
    machine = MACHINES[name]
    x, state = inputs(machine, steps_of(machine), 3), random_state(machine, 3)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"))
    assert excess(machine, x, machine.trace(x, state), state) <= 0
    assert excess(machine, x, runner.trace(x, state), state) <= 0


@given(example=examples())
@settings(max_examples=10, **RANDOM)
def test_it_holds_in_float64(example):
    """Against float64 itself only the order of summation differs, but that is what a module does."""
    model, x = example.model.double(), example.x.double()
    machine = psu.to_state_machine(model, tuple(x.shape[2:]))
    assert excess(machine, x.numpy(), trace_module(model, machine, x), precision="float64") <= 0


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_it_scales_with_the_numbers(scale):
    machine = chain((4,), ops.Linear(np.full((3, 4), scale)), MACHINES["psu neuron"].nodes[0].layer)
    x = inputs(machine, 6, 2)
    assert excess(machine, x, machine.trace(x)) <= 0


def test_it_follows_an_error_through_the_sigmoid():
    """Two large currents cancel; what is left is mostly rounding, and only the reset sees it at full size."""
    neuron = ops.SpikingNeuron(o.Leak(1e-6, 0.5), o.Identity(), o.Sigmoid(), o.StrictLeak(1.0, 0.9), 0.1, ">=")
    machine = chain((2,), ops.Linear(np.array([[12345.678, -12345.678 / 3]])), neuron)
    x = (np.random.default_rng(0).random((20, 4, 1)) * [1.0, 3.0]).astype(np.float32)
    assert excess(machine, x, machine.trace(x)) <= 0
    trace, exact = machine.trace(x), machine.trace(x.astype(np.float64))
    assert np.abs(trace.reset["b"] - exact.reset["b"]).max() > 1e-5


def test_it_is_not_vacuous():
    """On a small network a margin of a thousandth is far beyond rounding; on one neuron, of a few millionths."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(8, 16), psu.RPSU(8), nn.Linear(16, 16), psu.IPSU(8), nn.Linear(16, 4))
    machine = psu.to_state_machine(randomised(model), (8,))
    x = np.random.default_rng(0).random((8, 2, 8)).astype(np.float32)
    bounds = certify(machine, x, machine.trace(x)).bounds
    assert all(bound.min() > 0 and bound.max() < 1e-3 for bound in bounds.margin.values())
    assert bounds.output.max() < 1e-3
    single = chain((1,), ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, ">="))
    x = np.ones((1, 1, 1), np.float32)
    assert certify(single, x, single.trace(x)).bounds.margin["a"].item() < 2e-6


USEFUL = {
    "lif hard": (ops.LIFNeuron(2.0, True, 0.5, "hard", ">="), 1e-4),
    "lif soft": (ops.LIFNeuron(2.0, True, 0.5, "soft", ">="), 1e-4),
    "lif slow": (ops.LIFNeuron(20.0, True, 0.2, "soft", ">"), 1e-3),
    "lif undivided": (ops.LIFNeuron(2.0, False, 1.0, "soft", ">="), 1e-3),
    "if hard": (ops.LIFNeuron(None, False, 1.0, "hard", ">="), 1e-3),
    "if soft": (ops.LIFNeuron(None, False, 1.0, "soft", ">="), 1e-2),  # nothing leaks: magnitudes add up
    "bernoulli": (ops.BernoulliNeuron(o.Leak(0.5, 0.5), 1), 1e-5),
    "time conv": (ops.TimeConv(np.full((1, 1, 3), 0.5), np.ones(1), 1, lookahead=1), 1e-5),
    "sigmoid": (ops.Activation("sigmoid"), 1e-5),
    "relu": (ops.Activation("relu"), 1e-5),
    "hold": (ops.Hold(), 1e-4),
}


@pytest.mark.parametrize(("layer", "most"), USEFUL.values(), ids=USEFUL)
def test_it_stays_useful_over_64_steps(layer, most):
    """Currents of size 1: the bound holds, and is far below anything that matters."""
    machine, x = chain((1,), layer), np.random.default_rng(0).uniform(0, 1, (64, 50, 1)).astype(np.float32)
    trace = machine.trace(x)
    assert excess(machine, x, trace) <= 0
    bounds = rounding_bounds(
        machine, torch.from_numpy(x).double(), double(trace.spikes), double(machine.initial_state(50)), "float32"
    )
    for bound in (bounds.output, *bounds.margin.values()):
        assert float(bound.max()) < most
    if machine.spiking:
        assert 0 < trace.output.mean() < 1
        assert all(float(bound.min()) > 0 for bound in bounds.margin.values())


@pytest.mark.parametrize("layer", [ops.Multiply(), ops.Add()])
@pytest.mark.parametrize("inputs_read", [2, 3, 8, 40])
def test_it_counts_every_input_of_a_sum_and_of_a_product(layer, inputs_read):
    """One rounding for each but the first."""
    machine = StateMachine((Node("a", layer, ("x",) * inputs_read),), (20_000,))
    x = np.random.default_rng(0).uniform(0.9, 1.1, (1, 2, 20_000)).astype(np.float32)
    assert excess(machine, x, machine.trace(x)) <= 0


def test_it_follows_an_error_through_a_product():
    """What is left of two large currents that cancel is mostly rounding; behind the sigmoid only E still knows."""
    nodes = (
        Node("current", ops.Linear(np.array([[12345.678, -12345.678 / 3], [0.0, 100.0]])), ("x",)),
        Node("gate", ops.Activation("sigmoid"), ("current",)),
        Node("swap", ops.Linear(np.array([[0.0, 100.0], [0.0, 0.0]])), ("x",)),
        Node("product", ops.Multiply(), ("gate", "swap")),
    )
    machine = StateMachine(nodes, (2,))
    x = (np.random.default_rng(0).random((20, 4, 1)) * [1.0, 3.0]).astype(np.float32)
    assert excess(machine, x, machine.trace(x)) <= 0
    trace, exact = machine.trace(x), machine.trace(x.astype(np.float64))
    assert np.abs(trace.output - exact.output).max() > 1e-3


@pytest.mark.parametrize("neuron", [psu.LIF(3.0), psu.PLIF(3.0), psu.LIF(1.5, reset="soft"), psu.SPSN(3.0, seed=4)])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_it_holds_for_modules_that_loop(neuron, scale):
    x = scale * torch.randn(63, 4, 50)
    machine = psu.to_state_machine(neuron, (50,))
    assert excess(machine, x.numpy(), trace_module(neuron, machine, x)) <= 0


def test_float64_is_judged_more_strictly():
    machine = MACHINES["rpsu neuron"]
    x = inputs(machine, 6, 2)
    single, exact = (
        certify(machine, x, machine.trace(x), precision=p).bounds.margin["a"] for p in ("float32", "float64")
    )
    torch.testing.assert_close((single / exact).float(), torch.full_like(single, 2.0**29), rtol=1e-4, atol=0.0)


def test_a_trace_that_is_right_is_certified():
    machine = MACHINES["residual"]
    x = inputs(machine, 6, 4)
    certificate = certify(machine, x, machine.trace(x))
    assert certificate.ok
    assert certificate.disputed == ()
    assert certificate.output_error < 1e-5


def test_the_bias_of_an_operator_counts():
    """0.02 - 1 is rounded like a number of size 1, not of size 0.02."""
    window = o.Window(np.ones((1, 1)), -np.ones(1), time_invariant=True)
    machine = chain((1,), ops.SpikingNeuron(window, None, o.Sigmoid(), None, 0.0, ">="))
    x = np.linspace(0.001, 0.02, 50, dtype=np.float32).reshape(50, 1, 1)
    assert excess(machine, x, machine.trace(x)) <= 0


def test_a_bias_that_batch_norm_takes_away_again():
    """Rounding of the module: it adds a bias of 1000 and subtracts a mean of 1000."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(4, 64), nn.BatchNorm1d(64), psu.PSU(), nn.Linear(64, 4)).eval()
    nn.init.constant_(model[0].bias, 1000.0)
    nn.init.constant_(model[1].running_mean, 1000.0)
    x = torch.randn(20, 8, 4)
    machine = psu.to_state_machine(model, (4,), simplified=False)
    assert excess(machine, x.numpy(), trace_module(model, machine, x)) <= 0
    assert psu.verify(model, psu.to_state_machine(model, (4,)), x).ok


def test_a_potential_that_underflows():
    """A leak halves V until it is zero in float32; exactly, it never is, and > fires."""
    machine = chain((1,), ops.SpikingNeuron(o.Leak(1.0, 0.5), None, o.Sigmoid(), None, 0.0, ">"))
    x = np.zeros((200, 1, 1), np.float32)
    x[0] = 1.0
    assert certify(machine, x, machine.trace(x)).ok
