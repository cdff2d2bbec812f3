"""The rounding bound holds for every way of computing a decision, and is tight enough to mean something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import Arithmetic, Judge, aligned_run, certify, compare
from psu_deploy.verify.alignment import drained
from psu_deploy.verify.rounding import rounding_bounds
from tests.amount import tries
from tests.verify.networks import RANDOM, examples, randomised
from tests.zoo import MACHINES, chain, inputs, neuron, normal, random_state, steps_of


def double(values):
    return {name: torch.tensor(np.asarray(value), dtype=torch.float64) for name, value in values.items()}


def excess(machine, x, trace, state=None, precision="float32", **options):
    """Largest |margin - exact margin| - bound, and the same of the output; exact given the trace's own spikes."""
    exact_x, spikes = torch.tensor(np.asarray(x), dtype=torch.float64), double(trace.spikes)
    start = machine.initial_state(x.shape[1]) if state is None else state
    start = {
        n: torch.tensor(v, dtype=torch.float64 if machine.state_spec[n].batched else torch.int64)
        for n, v in start.items()
    }
    exact = machine.trace(exact_x, start, spikes=spikes)
    bounds = rounding_bounds(machine, exact_x, spikes, start, precision, **options)
    over = [
        (y - exact.outputs[name][-len(y) :]).abs() - bounds.outputs[name][-len(y) :]
        for name, y in double(trace.outputs).items()
    ]
    for name, margin in double(trace.margin).items():
        started = machine.starts[name]  # before it nothing is decided
        over.append(((margin - exact.margin[name]).abs() - bounds.margin[name])[started:])
    return max(float(value.max()) for value in over)


@pytest.mark.full
@given(example=examples())
@settings(max_examples=tries(25), **RANDOM)
def test_it_holds_for_module_and_machine(example):
    machine = psu.to_state_machine(example.model, tuple(example.x.shape[2:]))
    x = example.x.numpy()
    assert excess(machine, x, machine.trace(x)) <= 0
    assert excess(machine, x, trace_module(example.model, machine, example.x)) <= 0


@pytest.mark.rows(12)
@pytest.mark.parametrize("name", MACHINES)
def test_it_holds_for_onnxruntime_from_any_state(name, tmp_path):
    machine = MACHINES[name]
    x, state = inputs(machine, steps_of(machine), 3), random_state(machine, 3)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"))
    assert excess(machine, x, machine.trace(x, state), state) <= 0
    assert excess(machine, x, runner.trace(x, state), state) <= 0


@pytest.mark.full
@given(example=examples())
@settings(max_examples=tries(12), **RANDOM)
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


def cancelling(*layers):
    """Two large currents cancel, but for the rounding of each.

    Products of their own and a sum of two, so that every processor rounds alike: a matrix product may or may not keep
    what a product rounds off until it is added.
    """
    factors = ops.ChannelAffine(np.array([12345.678, -12345.678 / 3]), np.zeros(2))
    return chain((2,), factors, ops.Flatten(), ops.Linear(np.ones((1, 2))), *layers)


def cancelled(*lead):
    """Input whose two currents cancel."""
    return (np.random.default_rng(0).random((*lead, 1)) * [1.0, 3.0]).astype(np.float32)


def test_it_follows_an_error_through_the_sigmoid():
    """Two large currents cancel; what is left is mostly rounding, and only the reset sees it at full size."""
    neuron = ops.SpikingNeuron(o.Leak(1e-6, 0.5), o.Identity(), o.Sigmoid(), o.StrictLeak(1.0, 0.9), 0.1, ">=")
    machine, x = cancelling(neuron), cancelled(20, 4)
    assert excess(machine, x, machine.trace(x)) <= 0
    trace, exact = machine.trace(x), machine.trace(x.astype(np.float64))
    assert np.abs(trace.reset["d"] - exact.reset["d"]).max() > 1e-5


def test_it_is_not_vacuous():
    """On a small network a margin of a thousandth is far beyond rounding; on one neuron, of a few millionths."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(8, 16), psu.RPSU(8), nn.Linear(16, 16), psu.IPSU(8), nn.Linear(16, 4))
    machine = psu.to_state_machine(randomised(model), (8,))
    x = np.random.default_rng(0).random((8, 2, 8)).astype(np.float32)
    bounds = certify(machine, x, machine.trace(x)).bounds
    assert all(bound.min() > 0 and bound.max() < 1e-3 for bound in bounds.margin.values())
    assert bounds.outputs["y"].max() < 1e-3
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
    "leak": (ops.Filter(o.Leak(0.5, 0.5)), 1e-5),
    "biased exponentials": (ops.Filter(o.Exponentials([0.5, -0.2], [0.5, 0.8], -0.7)), 1e-5),
    "neuron on biased exponentials": (neuron(o.Exponentials([0.5, 0.2], [0.5, 0.8], -1.2)), 1e-5),
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
    for bound in (bounds.outputs["y"], *bounds.margin.values()):
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


@pytest.mark.full
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


def test_the_bias_of_exponentials_counts():
    """0.02 - 1 is rounded like a number of size 1, not of size 0.02; in a filter and in a neuron."""
    exponentials = o.Exponentials([1.0], [0.0], -1.0)
    x = np.linspace(0.001, 0.02, 50, dtype=np.float32).reshape(50, 1, 1)
    for layer in (ops.Filter(exponentials), ops.SpikingNeuron(exponentials, None, o.Sigmoid(), None, 0.0, ">=")):
        machine = chain((1,), layer)
        assert excess(machine, x, machine.trace(x)) <= 0
    machine = chain((1,), ops.Filter(exponentials))
    assert np.abs(machine.run(x) - machine.run(x.astype(np.float64))).max() > 1e-8


def other_order(machine, x):
    """The same network and input with the input's features in another order: the same run, rounded differently."""
    order = np.random.default_rng(1).permutation(machine.input_shape[0])
    first, *others = machine.nodes
    nodes = (Node(first.name, ops.Linear(first.layer.weight[:, order], first.layer.bias), first.inputs), *others)
    return StateMachine(nodes, machine.input_shape, machine.output).trace(x[..., order])


ESTIMATES = {
    "none": lambda T, random: None,
    "itself": lambda T, random: o.Identity(),
    "leak": lambda T, random: o.Leak(0.7, 0.6),
    "learned": lambda T, random: o.PartialSums(np.tril(random.standard_normal((T, T))), random.standard_normal(T)),
    "window": lambda T, random: o.Window(random.standard_normal((1, 3)), random.standard_normal(1), True),
    "exponentials": lambda T, random: o.Exponentials(random.standard_normal(2), [0.9, 0.4], random.standard_normal()),
}


def met_steps(seed, T, kind):
    """Linear, staircase neuron, Linear, staircase neuron; half of all thresholds are values that E takes exactly."""
    random = np.random.default_rng(seed)
    x, estimate = random.standard_normal((T, 3, 6)).astype(np.float32), ESTIMATES[kind](T, random)
    weights = random.standard_normal((8, 6)), random.standard_normal((4, 8))

    def network(*stairs):
        """As many blocks as staircases."""
        layers = []
        for weight, stair in zip(weights, stairs, strict=False):
            reset = o.StrictLeak(0.9, 0.7)
            layers.append(ops.Linear(weight))
            layers.append(neuron(o.Leak(0.8, 0.5), estimate, reset, estimator=stair, threshold=0.1))
        return chain((6,), *layers)

    stairs = []
    for last in "bd":
        seen = network(*stairs, o.Staircase([0.0], 1.0, 0.0)).trace(x.astype(np.float64)).estimate[last]
        thresholds = np.unique(np.concatenate([random.choice(seen.ravel(), 7), random.normal(0.0, 1.0, 7)]))
        stairs.append(o.Staircase(thresholds, random.uniform(0.05, 0.2) * random.choice([-1, 1]), random.normal()))
    return network(*stairs), x


def test_it_follows_an_error_to_a_threshold():
    """Two large currents cancel; on which side of 0 the rest falls is rounding alone, and turns a step either way."""
    stairs = o.Staircase([0.0], 0.3, 0.0)
    layer = neuron(o.Leak(1e-6, 0.5), o.Identity(), o.StrictLeak(1.0, 0.9), estimator=stairs)
    machine, x = cancelling(layer), cancelled(20, 4)
    trace, exact = machine.trace(x), machine.trace(x.astype(np.float64))
    assert excess(machine, x, trace) <= 0
    turned = trace.reset["d"] - exact.reset["d"]
    assert turned.max() > 0.2
    assert turned.min() < -0.2


staircases = st.builds(met_steps, st.integers(0, 2**16), st.integers(2, 20), st.sampled_from(list(ESTIMATES)))


@pytest.mark.full
@pytest.mark.parametrize("kind", ESTIMATES)
def test_the_steps_that_are_met_are_turned_by_rounding(kind):
    """So the tests below do see what they are about; a turned step is worth at least 0.05 * 0.9 * 0.7."""
    turned = 0
    for seed in range(10):
        machine, x = met_steps(seed, 10, kind)
        trace = other_order(machine, x)
        exact = machine.trace(x.astype(np.float64), spikes=double(trace.spikes))
        turned += sum(np.abs(trace.reset[name] - exact.reset[name]).max() > 0.03 for name in machine.spiking)
    assert turned >= 5


@pytest.mark.full
@given(example=staircases)
@settings(max_examples=tries(60), **RANDOM)
def test_it_holds_for_staircases_whose_steps_are_met(example):
    machine, x = example
    assert excess(machine, x, machine.trace(x)) <= 0
    assert excess(machine, x, other_order(machine, x)) <= 0


@pytest.mark.full
@given(example=staircases)
@settings(max_examples=tries(20), **RANDOM)
def test_it_holds_for_staircases_in_float64(example):
    machine, x = example
    x = x.astype(np.float64)
    assert excess(machine, x, other_order(machine, x), precision="float64") <= 0


@pytest.mark.parametrize("steps", [1, 15, 63])
def test_a_staircase_is_bounded_as_tightly_as_a_sigmoid(steps):
    """Currents of size 1: hardly any E is so near a threshold that rounding could turn it."""
    thresholds = np.linspace(-2.0, 2.0, steps) + 0.3
    stairs = o.Staircase(thresholds, 1.0 / steps, 0.0)
    machine = chain(
        (6,), ops.Linear(normal(100, 6)), neuron(o.Leak(0.5, 0.5), None, o.StrictLeak(1.0, 0.5), estimator=stairs)
    )
    x = normal(30, 8, 6).astype(np.float32)
    bound = certify(machine, x, machine.trace(x)).bounds.margin["b"].numpy()
    assert (bound > 0).all()
    assert np.median(bound) < 1e-4
    assert (bound > 1e-3).mean() < 5e-3  # a turned step is worth 1/steps


ULP = 2.0**-23
"""From 1 to the next float32."""


def on_edge(away, T=4, wait=0):
    """E is 1, the threshold of the one step, in step 1 of neuron 1, and far from it everywhere else."""
    stairs = neuron(o.Identity(), o.Identity(), o.StrictLeak(1.0, 0.5), estimator=o.Staircase([1.0], 1.0, 0.0))
    machine = chain((3,), *([ops.Wait(wait)] if wait else []), stairs)
    x = np.tile(np.float32([0.2, 0.6, 3.0]), (T, 2, 1))
    x[1, :, 1] = 1.0 + away
    return machine, x


@pytest.mark.parametrize("wait", [0, 2])
@pytest.mark.parametrize(("here", "there"), [(-ULP / 2, 0.0), (0.0, -ULP / 2), (0.0, -ULP), (-ULP, ULP)])
def test_a_step_on_a_knife_edge_may_be_taken_or_not(here, there, wait):
    """What an engine saw is a few rounding errors off: half of R differs in the steps behind, and a spike."""
    machine, x = on_edge(here, wait=wait)
    name = machine.spiking[0]
    trace = aligned_run(machine, machine.trace, on_edge(there, wait=wait)[1])
    own = aligned_run(machine, machine.trace, x)
    took_another = (1.0 + here >= 1.0) != (1.0 + there >= 1.0)
    assert (np.abs(trace.reset[name] - own.reset[name]).max() > 0.4) == took_another
    assert np.array_equal(trace.spikes[name], own.spikes[name]) != took_another
    certificate = certify(machine, x, trace)
    assert certificate.ok, certificate.wrong
    assert compare(machine, x, ("own", own), ("other", trace)).ok
    bound = certificate.bounds.margin[name]
    assert float(bound[:, :, [0, 2]].max()) < 1e-4, "no other neuron is excused"
    assert float(bound[:2].max()) < 1e-4, "nor an earlier step"


@pytest.mark.parametrize("wait", [0, 2])
def test_a_step_off_the_edge_must_be_right(wait):
    machine, x = on_edge(1e-4, wait=wait)
    trace = aligned_run(machine, machine.trace, on_edge(-1e-4, wait=wait)[1])
    assert certify(machine, x, aligned_run(machine, machine.trace, x)).ok
    assert not certify(machine, x, trace).ok


def test_a_threshold_is_rounded_too():
    """1 + 2**-25 is 1 in float32, and a 1 that is exact reaches it."""
    stairs = neuron(o.Identity(), None, o.StrictLeak(1.0, 0.5), estimator=o.Staircase([1 + 2.0**-25], 1.0, 0.0))
    machine, x = chain((1,), stairs), np.ones((2, 1, 1), np.float32)
    assert machine.trace(x).reset["a"].ravel().tolist() == [0.0, 0.5]
    assert machine.trace(x.astype(np.float64)).reset["a"].ravel().tolist() == [0.0, 0.0]
    assert certify(machine, x, machine.trace(x)).ok


def staircase_network(height=0.2, shift=0.0, offset=0.1):
    stairs = o.Staircase(np.array([-1.0, -0.2, 0.3, 1.1]) + shift, height, offset)
    layers = [neuron(o.Leak(0.8, 0.5), None, o.StrictLeak(0.9, 0.7), estimator=stairs, threshold=0.1) for _ in "ab"]
    return chain((6,), ops.Linear(normal(12, 6)), layers[0], ops.Linear(normal(8, 12)), layers[1])


@pytest.mark.full
@pytest.mark.parametrize("wrong", [{"height": 0.22}, {"shift": 0.05}, {"offset": 0.11}])
def test_a_wrong_staircase_is_called_wrong(wrong, tmp_path):
    """10 % in height or offset, or thresholds that stand elsewhere."""
    machine, other, x = staircase_network(), staircase_network(**wrong), normal(12, 4, 6).astype(np.float32)
    assert certify(machine, x, machine.trace(x)).ok
    assert not certify(machine, x, other.trace(x)).ok
    right, wrong = (psu.export(m, tmp_path / f"{i}.onnx") for i, m in enumerate((machine, other)))
    assert psu.verify(machine, right, x).ok
    assert not psu.verify(machine, wrong, x).ok


LATE = {"look-ahead": MACHINES["look-ahead"], "on edge": on_edge(0.0, wait=2)[0], "in time": on_edge(0.0)[0]}


@pytest.mark.parametrize("machine", LATE.values(), ids=LATE)
def test_a_judge_and_its_bounds_see_the_same_estimate(machine):
    """`rounding_bounds` runs the machine itself where it is not told E; in machine time, late layers and all."""
    x = on_edge(0.0)[1].astype(np.float64)
    certificate = certify(machine, x, aligned_run(machine, machine.trace, x))
    late = torch.from_numpy(drained(machine, x))
    start = {name: torch.from_numpy(value) for name, value in machine.initial_state(2, "float64").items()}
    bounds = rounding_bounds(machine, late, machine.trace(late).spikes, start, "float32")
    for layer in machine.spiking:
        rows = bounds.margin[layer][machine.latencies[layer] :][: len(x)]
        assert torch.equal(certificate.bounds.margin[layer], rows)


def by_difference(estimated, gain, decay):
    """R of an engine in float32 numpy that computes it as Q[t] - g S'[t], from S'."""
    Q, resets = np.zeros_like(estimated[0]), []
    for drive in np.float32(gain) * estimated:
        Q = np.float32(decay) * Q + drive
        resets.append(Q - drive)
    return np.stack(resets)


def traced(machine, x, margin, reset=None):
    """The trace of an engine that computed these margins."""
    reset = np.zeros_like(x) if reset is None else reset
    spikes = (margin >= 0).astype(np.float32)
    return psu.machine.Trace(spikes, {"a": spikes}, {"a": x}, {"a": reset}, {"a": margin})


THRESHOLDS = np.float32([-2.0, -0.75, 0.5, 1.5])
ESTIMATORS = {
    "staircase": (
        o.Staircase(THRESHOLDS, 0.3, -0.1),
        lambda x: (x[..., None] >= THRESHOLDS).sum(-1).astype(np.float32) * np.float32(0.3) - np.float32(0.1),
    ),
    "sigmoid": (o.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "current": (o.RawCurrent(), lambda x: x),
}


@pytest.mark.parametrize(("estimator", "raw"), ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize("seed", range(5))
def test_a_reset_by_difference(estimator, raw, seed):
    """What is left of Q and g S' is rounded like them."""
    x = np.random.default_rng(seed).normal(0.0, 2.0, (20, 4, 5)).astype(np.float32)
    gain, decay = -1234.5, 0.00123
    reset = by_difference(raw(x), gain, decay)
    machine = chain((5,), neuron(o.Identity(), None, o.StrictLeak(gain, decay), estimator=estimator))
    trace, arithmetic = traced(machine, x, x - reset - np.float32(0.4), reset), Arithmetic(reset_by_difference=True)
    assert excess(machine, x, trace) > 0
    assert excess(machine, x, trace, arithmetic=arithmetic) <= 0
    assert excess(machine, x, trace, arithmetic=Arithmetic(remembers_margin=True)) > 0
    assert not certify(machine, x, trace).ok
    assert Judge(machine, x, arithmetic=arithmetic).certify(trace).ok
    assert certify(machine, x, trace, arithmetic=arithmetic).ok


@pytest.mark.parametrize(
    "layer",
    [neuron(o.Identity(), None, None), ops.LIFNeuron(1.0, True, 0.4, "hard", ">=")],
    ids=["spiking", "lif"],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_margin_that_is_remembered(layer, seed):
    """old + (new - old): a small one behind a large one is rounded like the large one."""
    random = np.random.default_rng(seed)
    x = (random.normal(0.0, 1.0, (20, 4, 5)) * 10.0 ** random.integers(0, 5, (20, 4, 5))).astype(np.float32)
    old, margins = np.zeros_like(x[0]), []
    for new in x - np.float32(0.4):
        old = old + (new - old)
        margins.append(old)
    machine = chain((5,), layer)
    trace, arithmetic = traced(machine, x, np.stack(margins)), Arithmetic(remembers_margin=True)
    assert excess(machine, x, trace) > 0
    assert excess(machine, x, trace, arithmetic=arithmetic) <= 0
    assert excess(machine, x, trace, arithmetic=Arithmetic(reset_by_difference=True)) > 0


def test_what_other_engines_need_is_off_by_default():
    machine, x = MACHINES["psu neuron"], inputs(MACHINES["psu neuron"], 6, 2)
    plain, same, wider, widest = (
        certify(machine, x, machine.trace(x), **options).bounds.margin["a"]
        for options in (
            {},
            {"arithmetic": Arithmetic()},
            {"arithmetic": Arithmetic(reset_by_difference=True)},
            {"arithmetic": Arithmetic(reset_by_difference=True, remembers_margin=True)},
        )
    )
    assert torch.equal(plain, same)
    assert (plain < wider).all()
    assert (wider < widest).all()
