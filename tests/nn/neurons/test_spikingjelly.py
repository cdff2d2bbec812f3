"""SpikingJelly's neurons and ours, given the same numbers: bit by bit the same spikes, and the same gradients."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

import psu_deploy as psu


def spikingjelly(room):
    """A module of SpikingJelly; without SpikingJelly its tests are skipped, unless it is said to be there."""
    name = f"spikingjelly.activation_based.{room}"
    required = "spikingjelly" in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(",")
    return importlib.import_module(name) if required else pytest.importorskip(name)


neuron, surrogate = spikingjelly("neuron"), spikingjelly("surrogate")

STEPS = (1, 2, 7, 33, 64)
TAUS = (1.5, 2.0, 3.3, 100.0)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
ALL_STEPS = pytest.mark.parametrize("T", STEPS)
RESETS = pytest.mark.parametrize("reset", ["hard", "soft"])
DECAY_INPUT = pytest.mark.parametrize("decay_input", [True, False], ids=["decay", "raw"])


def current(T, scale=1.0, dtype=torch.float32):
    return scale * torch.randn(T, 4, 30, dtype=dtype) + 0.5 * scale


def leaky_pair(kind, tau, threshold, reset, decay_input, *, detach_reset=False, alpha=2.0):
    """The same neuron twice: SpikingJelly's and ours."""
    theirs_of, time_constant, ours_of = {
        "LIF": (neuron.LIFNode, "tau", psu.LIF),
        "PLIF": (neuron.ParametricLIFNode, "init_tau", psu.PLIF),
    }[kind]
    theirs = theirs_of(
        **{time_constant: tau},
        v_threshold=threshold,
        v_reset=0.0 if reset == "hard" else None,
        decay_input=decay_input,
        detach_reset=detach_reset,
        surrogate_function=surrogate.ATan(alpha),
        step_mode="m",
    )
    options = {"reset": reset, "decay_input": decay_input, "detach_reset": detach_reset}
    return theirs, ours_of(tau, threshold, **options, surrogate=psu.Atan(alpha))


def parallel_pair(kind, T, order, lambda_=1.0):
    """The same neuron without reset twice, its numbers at random and such that it fires now and then."""
    surrogate_function = surrogate.ATan()
    if kind == "PSN":
        theirs, ours = neuron.PSN(T, surrogate_function), psu.PSN(T)
    elif kind == "MaskedPSN":
        theirs = neuron.MaskedPSN(order, T, lambda_, surrogate_function, step_mode="m")
        ours = psu.MaskedPSN(T, min(order, T), lambda_)  # ours takes no window longer than T
    else:
        theirs = neuron.SlidingPSN(order, surrogate_function=surrogate_function, step_mode="m")
        ours = psu.SlidingPSN(order)
    with torch.no_grad():
        theirs.weight.normal_()
        theirs.bias.uniform_(-0.5, 0.5)
        if kind == "PSN":
            ours.weight.copy_(theirs.weight)
            ours.step_bias.copy_(theirs.bias[:, 0])
        elif kind == "MaskedPSN":
            ours.integrate.set_matrix(theirs.weight, theirs.bias[:, 0])
        else:
            ours.integrate.weight.copy_(theirs.weight.flip(0))  # they begin with the oldest step, we with the newest
            ours.integrate.step_bias.copy_(theirs.bias)
    return theirs, ours


def same_spikes(theirs, ours, x):
    """Bit by bit the same, and neither silence nor one long burst. Returns the spikes."""
    theirs, ours = theirs.to(x.dtype), ours.to(x.dtype)
    with torch.no_grad():
        expected, spikes = theirs(x), ours(x)
    assert expected.dtype == spikes.dtype == x.dtype
    assert torch.equal(spikes, expected)
    assert 0 < spikes.mean() < 1
    return spikes


def gradients(module, x, weights):
    """Of a weighted sum of the spikes: with respect to x, and to the parameters."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad((module(x) * weights).sum(), [x, *module.parameters()])


@pytest.mark.rows(40)
@ALL_STEPS
@PRECISIONS
@DECAY_INPUT
@RESETS
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
def test_leaky_neurons_spike_alike(kind, tau, reset, decay_input, dtype, T):
    theirs, ours = leaky_pair(kind, tau, 0.7, reset, decay_input)
    same_spikes(theirs, ours, current(T, tau if decay_input else 1.0, dtype))


@PRECISIONS
@DECAY_INPUT
@RESETS
@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
def test_membranes_are_rounded_alike(kind, reset, decay_input, dtype):
    """Why the spikes are the same bit by bit: so is what they are decided on."""
    theirs, ours = (module.to(dtype) for module in leaky_pair(kind, 3.3, 0.7, reset, decay_input))
    theirs.store_v_seq = True
    x = current(64, 3.3, dtype)
    with torch.no_grad():
        spikes, (charged, _) = theirs(x), ours.potentials(x)
    assert torch.equal(theirs.v_seq, charged - 0.7 * spikes if reset == "soft" else charged * (1 - spikes))


@pytest.mark.parametrize("threshold", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
def test_any_threshold(kind, threshold):
    same_spikes(*leaky_pair(kind, 2.0, threshold, "soft", True), current(33, 4.0))


@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
def test_the_very_threshold_fires(kind):
    """H = 2/tau = 1, exactly."""
    theirs, ours = leaky_pair(kind, 2.0, 1.0, "hard", True)
    x = torch.tensor([2.0, 1.0, 3.0, 0.0]).view(4, 1, 1)
    assert same_spikes(theirs, ours, x).flatten().tolist() == [1.0, 0.0, 1.0, 0.0]


def test_a_time_constant_starts_alike():
    for tau in TAUS:
        theirs, ours = leaky_pair("PLIF", tau, 1.0, "hard", True)
        assert torch.equal(theirs.w, ours.w)


@pytest.mark.parametrize("alpha", [2.0, 0.7])
@pytest.mark.parametrize("detach_reset", [False, True], ids=["through reset", "detached"])
@DECAY_INPUT
@RESETS
@pytest.mark.parametrize("kind", ["LIF", "PLIF"])
def test_leaky_neurons_learn_alike(kind, reset, decay_input, detach_reset, alpha):
    theirs, ours = leaky_pair(kind, 3.3, 0.7, reset, decay_input, detach_reset=detach_reset, alpha=alpha)
    x = current(33, 3.3 if decay_input else 1.0, torch.float64)
    weights = torch.randn_like(x)
    for expected, found in zip(
        gradients(theirs.double(), x, weights), gradients(ours.double(), x, weights), strict=True
    ):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_detaching_the_reset_matters():
    """Else the test above would show nothing."""
    x = current(33, 3.3, torch.float64)
    through, cut = (leaky_pair("LIF", 3.3, 0.7, "hard", True, detach_reset=d)[1].double() for d in (False, True))
    assert not torch.allclose(*(gradients(module, x, torch.ones_like(x))[0] for module in (through, cut)))


@ALL_STEPS
@PRECISIONS
@pytest.mark.parametrize("order", [1, 3, 100])
@pytest.mark.parametrize("kind", ["PSN", "MaskedPSN", "SlidingPSN"])
def test_parallel_neurons_spike_alike(kind, order, dtype, T):
    same_spikes(*parallel_pair(kind, T, order), current(T, dtype=dtype))


@pytest.mark.parametrize("lambda_", [0.0, 0.3])
def test_half_masked_neurons_spike_alike(lambda_):
    same_spikes(*parallel_pair("MaskedPSN", 33, 4, lambda_), current(33, dtype=torch.float64))


def test_sliding_neurons_start_alike():
    theirs = neuron.SlidingPSN(4, surrogate_function=surrogate.ATan(), step_mode="m")
    same_spikes(theirs, psu.SlidingPSN(4), current(33))


@pytest.mark.parametrize("kind", ["PSN", "MaskedPSN", "SlidingPSN"])
def test_parallel_neurons_learn_alike(kind):
    theirs, ours = parallel_pair(kind, 33, 4)
    x = current(33, dtype=torch.float64)
    weights = torch.randn_like(x)
    expected, found = (gradients(module.double(), x, weights)[0] for module in (theirs, ours))
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
