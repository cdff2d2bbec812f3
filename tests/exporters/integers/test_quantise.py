"""Real numbers become whole ones: exactly where they can be, in range always, and else with few flips."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.integers.input_code import calibrated, code_of, encode
from psu_deploy.exporters.integers.lower import lower
from psu_deploy.exporters.integers.measure import measure
from psu_deploy.exporters.integers.neurons import factor, threshold, whole_decay
from psu_deploy.exporters.integers.quantise import quantise
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests import zoo
from tests.exporters.integers import networks, oracle

LIMIT = 2**23 - 1


def normal(*shape, seed=0, size=1.0):
    return np.random.default_rng((seed, *shape)).normal(0, size, shape)


def spikes(T, B, n, seed=0):
    return (np.random.default_rng(seed).random((T, B, n)) < 0.3).astype(np.float32)


def made(machine, x, input_range="max"):
    return quantise(lower(machine), code_of(calibrated(x, input_range)), machine.max_steps, len(x))


def report(machine, x):
    chain = lower(machine)
    network, choices = quantise(chain, code_of(calibrated(x, "max")), machine.max_steps, len(x))
    return measure(machine, chain, network, choices, x)


def psu_neuron(threshold=0.3, fire_on=">=", gain=0.5, decay=0.5, reset=True):
    strict = o.StrictLeak(threshold or 1.0, decay) if reset else None
    return ops.SpikingNeuron(o.Leak(gain, decay), None, o.Sigmoid(), strict, threshold, fire_on)


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_have_eight_bits_and_a_scale_per_channel():
    weight = normal(6, 20) * np.logspace(-3, 3, 6)[:, None]
    network, (choice,) = made(oracle.machine((20,), ops.Linear(weight), psu_neuron()), spikes(5, 2, 20))
    whole = network.layers[0].synapse.weight
    np.testing.assert_array_equal(np.abs(whole).max(1), 127)
    np.testing.assert_allclose(choice.scale, np.abs(weight).max(1) / 127, rtol=1e-12)
    assert (np.abs(weight - whole * choice.scale[:, None]) <= choice.scale[:, None] / 2 * (1 + 1e-9)).all()


def test_of_a_convolution_too():
    weight = normal(6, 2, 3, 3) * np.logspace(-3, 3, 6).reshape(-1, 1, 1, 1)
    conv = ops.Conv2d(weight, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    x = spikes(5, 2, 50).reshape(5, 2, 2, 5, 5)
    network, (choice,) = made(oracle.machine((2, 5, 5), conv, psu_neuron()), x)
    np.testing.assert_array_equal(np.abs(network.layers[0].synapse.weight).max((1, 2, 3)), 127)
    np.testing.assert_allclose(choice.scale, np.abs(weight).max((1, 2, 3)) / 127, rtol=1e-12)


def test_one_scale_for_all_where_lavas_own_neuron_comes_behind():
    weight = np.clip(normal(6, 20), -1, 1) * np.linspace(1, 1.5, 6)[:, None]
    machine = oracle.machine((20,), ops.Linear(weight), ops.LIFNeuron(2.0, True, 0.3, "hard", ">="))
    network, (choice,) = made(machine, spikes(5, 2, 20))
    assert isinstance(network.layers[0].neuron, ir.Cuba)
    np.testing.assert_allclose(choice.scale, np.abs(weight).max() / 127, rtol=1e-12)


@pytest.mark.parametrize("axes", [0, 2])
def test_fake_quantised_weights_are_found_again_behind_a_norm(axes):
    """To the last bit: what was trained is what is written."""
    torch.manual_seed(axes)
    if axes:
        layers = [nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), psu.PSU(), nn.Conv2d(5, 4, 2, groups=1), nn.BatchNorm2d(4)]
        model, shape = psu.SpikingSequential(*layers, psu.PSU(), nn.Flatten(), nn.Linear(4 * 9, 3)), (2, 6, 6)
    else:
        layers = [nn.Linear(7, 5), nn.BatchNorm1d(5), psu.RPSU(5), nn.Linear(5, 4), nn.BatchNorm1d(4), psu.PSU()]
        model, shape = psu.SpikingSequential(*layers, nn.Linear(4, 3)), (7,)
    prepared = psu.prepare(model.eval(), target="lava")
    model = prepared if isinstance(prepared, nn.Module) else model
    signs = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.0, 1.0)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.1, 5.0)
            signs.append(module.weight.detach().sign())
    weights = [m.parametrizations.weight.original for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    signs.append(torch.ones(3))
    network, _ = made(psu.to_state_machine(model, shape), np.ones((4, 1, *shape), np.float32))
    for layer, weight, sign in zip(network.layers, weights, signs, strict=True):
        rows = weight.detach().double().flatten(1)
        expected = (rows / (rows.abs().amax(1, keepdim=True) / 127)).round() * sign.double()[:, None]
        np.testing.assert_array_equal(layer.synapse.weight.reshape(len(rows), -1), expected.numpy())


def test_poolings_and_identities_are_exact():
    pool = ops.AvgPool((3, 3), (2, 2), ((0, 0), (0, 0)))
    machine = oracle.machine((2, 7, 7), psu_neuron(), pool)
    x = spikes(5, 2, 98).reshape(5, 2, 2, 7, 7)
    network, _ = made(machine, x)
    assert [set(np.unique(layer.synapse.weight)) for layer in network.layers] == [{1}, {1}]
    sent = Reference(network, 2).advance(encode(network, x))
    np.testing.assert_allclose(
        sent[-1] * network.units.reshape(-1, 1, 1), machine.trace(x.astype(np.float64)).output, rtol=1e-12
    )


@pytest.mark.parametrize("kind", ["psu", "soft", "hard", "none"])
def test_weights_of_nothing(kind):
    """All zero, or one channel of zeros, with a bias and without."""
    neuron = {
        "psu": [psu_neuron()],
        "soft": [ops.LIFNeuron(2.0, True, 0.3, "soft", ">=")],
        "hard": [ops.LIFNeuron(2.0, True, 0.3, "hard", ">=")],
        "none": [],
    }[kind]
    one_dead = normal(4, 6)
    one_dead[2] = 0.0
    for weight, bias in product([np.zeros((4, 6)), one_dead], [None, np.array([0.0, 0.5, 1.0, -1.0])]):
        machine = oracle.machine((6,), ops.Linear(weight, bias), *neuron)
        x = spikes(6, 3, 6)
        network, _ = made(machine, x)
        sent = Reference(network, 3).advance(encode(network, x))[-1]
        expected = machine.trace(x.astype(np.float64)).output
        if kind == "none":
            np.testing.assert_allclose(sent * network.units, expected, atol=0.03)
        elif not weight.any():
            np.testing.assert_array_equal(sent, expected)
        assert np.isfinite(network.units).all()


SIZES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
THRESHOLDS = (-1e6, -1.0, -1e-6, 0.0, 1e-6, 1e-3, 1.0, 1e3, 1e6)
STRANGE = {
    "psu": lambda th: psu_neuron(th),
    "learned": lambda th: zoo.neuron(zoo.LEARNED, zoo.LEAK, o.StrictLeak(th, 0.5), threshold=th),
    "sliding": lambda th: zoo.neuron(zoo.SLIDING, threshold=th),
    "soft": lambda th: ops.LIFNeuron(2.0, True, th, "soft", ">="),
    "hard": lambda th: ops.LIFNeuron(2.0, True, th, "hard", ">"),
    "hard, undivided": lambda th: ops.LIFNeuron(2.0, False, th, "hard", ">="),
    "if": lambda th: ops.LIFNeuron(None, False, th, "soft", ">="),
}


@pytest.mark.rows(3)
@pytest.mark.full
@pytest.mark.parametrize("kind", STRANGE)
def test_tiny_and_huge_numbers(kind):
    """Either it is right up to a few percent of the spikes, or it is refused by name."""
    x, refused = spikes(6, 4, 20), 0
    for size, th, bias in product(SIZES, THRESHOLDS, (0.0, 1e-6, 1.0, 1e6)):
        linear = ops.Linear(normal(8, 20, size=size), normal(8, size=bias) if bias else None)
        machine = oracle.machine((20,), linear, STRANGE[kind](th))
        try:
            found = report(machine, x)
        except psu.UnsupportedModelError:
            refused += 1
            continue
        assert found.flip_rate < 0.08, (size, th, bias)
        assert found.layers[0].bound <= 1
    assert refused <= 10


def test_decays_of_nothing_and_nearly_one():
    for tau in (1.0, 1.0001, 2.0, 1e3, 1e5, 1e9):
        leak, strict = o.Leak(1 / tau, 1 - 1 / tau), o.StrictLeak(0.05 / tau, 1 - 1 / tau)
        neuron = ops.SpikingNeuron(leak, None, o.Sigmoid(), strict, 0.01 / tau, ">=")
        linear = ops.Linear(normal(8, 20), normal(8))
        assert report(oracle.machine((20,), linear, neuron), spikes(8, 4, 20)).flip_rate < 0.05
        for reset in ("soft", "hard"):
            lif = ops.LIFNeuron(tau, True, 0.4 / tau, reset, ">=")
            assert report(oracle.machine((20,), linear, lif), spikes(8, 4, 20)).flip_rate < 0.05


def test_only_a_decay_of_one_is_one():
    assert [whole_decay(d) for d in (0.0, 0.5, 0.99999999, 1.0)] == [0, 2048, 4095, 4096]


@pytest.mark.parametrize("gain", [0.0, -0.7, -1e-3, 5.0])
def test_gains_of_nothing_and_below(gain):
    exponentials = o.Exponentials(np.array([gain, 0.25 * gain]), np.array([0.5, 0.9]), 0.1)
    for integrate in (o.Leak(gain, 0.5), exponentials):
        neuron = ops.SpikingNeuron(integrate, None, o.Sigmoid(), o.StrictLeak(0.2, 0.5), 0.05, ">=")
        machine = oracle.machine((20,), ops.Linear(normal(8, 20), normal(8)), neuron)
        assert report(machine, spikes(8, 4, 20)).flip_rate < 0.03
    neuron = ops.SpikingNeuron(o.Leak(0.5, 0.5), None, o.Sigmoid(), o.StrictLeak(gain, 0.5), 0.05, ">=")
    machine = oracle.machine((20,), ops.Linear(normal(8, 20), normal(8)), neuron)
    assert report(machine, spikes(8, 4, 20)).flip_rate < 0.03


# -- thresholds and factors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fire_on", "expected"),
    [
        (2.0, ">=", 2), (2.0, ">", 3), (2.3, ">=", 3), (2.3, ">", 3), (-2.3, ">=", -2), (-2.3, ">", -2),
        (-2.0, ">", -1), (0.0, ">=", 0), (0.0, ">", 1), (2.0 + 1e-12, ">=", 2),
        (2.0 - 1e-12, ">", 3), (1e6 + 1e-5, ">=", 10**6),
    ],
)  # fmt: skip
def test_the_least_that_fires(value, fire_on, expected):
    assert threshold(np.array([value]), fire_on).tolist() == [expected]


def test_a_factor_has_as_many_bits_as_fit():
    ratios = np.array([0.0, 1.0, -1.0, 4096.0, 1 / 3, -0.7, 1e-5, 1000.1])
    coefficient, shift = factor(ratios)
    assert (np.abs(coefficient) <= 4096).all()
    assert ((shift >= 0) & (shift <= 30)).all()
    np.testing.assert_allclose(coefficient / 2.0**shift, ratios, rtol=1 / 4096)
    assert (coefficient[1], shift[1]) == (4096, 12)


# -- the input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([0, 1, 1, 0], (1.0, 0, 1)),
        ([0, 0, 0, 0], (1.0, 0, 1)),
        ([0, 3, 1, 7], (1.0, 0, 7)),
        ([0, 255, 3, 1], (1.0, 0, 255)),
        ([0, -3, 1, 2], (1.0, -3, 3)),
        ([-1, 0, 1, 0], (1.0, -1, 1)),
        ([k / 16 for k in (0, 3, 5, 16)], (1 / 16, 0, 16)),
        ([k / 16 for k in (0, -3, 5, 4)], (1 / 16, -5, 5)),
        ([0.5, 1.5, 0, 20], (0.5, 0, 40)),
        ([0, 0, 0.25, 0], (0.25, 0, 1)),
        ([0, 256, 3, 1], (256 / 255, 0, 255)),
        ([0.1, -0.3, 0.7, 1.2], (np.float32(1.2) / 255, -255, 255)),
        ([1e-6, 2e-6, 0, 0], (float(np.float32(2e-6)) / 255, 0, 255)),
    ],
)
def test_grids(values, code):
    x = np.array(values, np.float32).reshape(2, 1, 2)
    found = code_of(calibrated(x, "max"))
    assert (found.low, found.high) == code[1:]
    assert found.unit == pytest.approx(code[0], rel=1e-12)
    numbers = np.clip(np.rint(x / found.unit), found.low, found.high)
    exact = len({round(v / code[0], 6) % 1 for v in values}) == 1
    np.testing.assert_allclose(numbers * found.unit, x, atol=0 if exact else found.unit / 2 * 1.001)
    assert found.binary == (code == (1.0, 0, 1))


def test_the_percentile_leaves_an_outlier_out():
    x = np.random.default_rng(0).normal(0, 1, (10, 10, 100)).astype(np.float32)
    x[3, 3, 3] = 1000.0
    assert code_of(calibrated(x, "max")).unit == pytest.approx(1000 / 255)
    found = code_of(calibrated(x, "percentile"))
    assert found.unit == pytest.approx(np.percentile(np.abs(x.astype(float)), 99.9) / 255)
    assert (found.low, found.high) == (-255, 255)


def test_the_percentile_of_next_to_nothing():
    x = np.zeros((10, 10, 100), np.float32)
    x[3, 3, 3] = 3.0
    assert code_of(calibrated(x, "percentile")) == ir.InputCode(1.0, 0, 3)


def test_an_unknown_range():
    with pytest.raises(psu.InputError, match="input_range must be one of max, percentile, got 'mean'"):
        calibrated(np.zeros((1, 1, 1)), "mean")


# -- what came of it ---------------------------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.full
@pytest.mark.parametrize("kind", ["binary", "counts", "real"])
def test_few_spikes_of_random_networks_flip(kind):
    rates = []
    for seed in range(12):
        machine = networks.machine(seed, 8)
        rates.append(report(machine, networks.spikes(machine, 8, 3, seed, kind)).flip_rate)
    assert np.mean(rates) < 0.02
    assert max(rates) < 0.08


def dyadic(*shape, seed=0):
    """Multiples of 2^-7, the largest of every row 127 of them."""
    whole = np.random.default_rng((seed, *shape)).integers(-126, 127, shape)
    whole[:, 0] = 127
    return whole / 128


COLUMNS = np.array([[1.0, 0.5, -0.25, 0.125]])
EXACT = {
    "psu without reset": lambda th, on: psu_neuron(th, on, reset=False),
    "undivided": lambda th, on: psu_neuron(th, on, gain=1.0, reset=False),
    "no leak": lambda th, on: psu_neuron(th, on, gain=1.0, decay=1.0, reset=False),
    "forgets at once": lambda th, on: psu_neuron(th, on, gain=1.0, decay=0.0, reset=False),
    "sliding": lambda th, on: zoo.neuron(o.Window(COLUMNS, np.zeros(1), True), threshold=th, fire_on=on),
    "sliding with bias": lambda th, on: zoo.neuron(o.Window(COLUMNS, np.full(1, 0.25), True), threshold=th, fire_on=on),
    "a matrix": lambda th, on: zoo.neuron(
        o.PartialSums(np.tril(np.random.default_rng(1).integers(-4, 5, (8, 8)) / 4), np.arange(8) / 8.0),
        threshold=th,
        fire_on=on,
    ),
    "a staircase": lambda th, on: ops.SpikingNeuron(
        o.Leak(0.5, 0.5), None, o.Staircase(np.array([-0.5, 0.0, 0.25]), 0.25, 0.125), o.StrictLeak(0.5, 0.5), th, on
    ),
    "a current": lambda th, on: ops.SpikingNeuron(
        o.Leak(1.0, 0.0), o.Identity(), o.RawCurrent(), o.StrictLeak(0.5, 0.5), th, on
    ),
    "lif, soft": lambda th, on: ops.LIFNeuron(2.0, True, th, "soft", on),
    "lif, soft, undivided": lambda th, on: ops.LIFNeuron(2.0, False, th, "soft", on),
    "if, soft": lambda th, on: ops.LIFNeuron(None, False, th, "soft", on),
    "if, hard": lambda th, on: ops.LIFNeuron(None, False, th, "hard", on),
    "hard, forgets at once": lambda th, on: ops.LIFNeuron(1.0, True, th, "hard", on),
}


@pytest.mark.rows(10)
@pytest.mark.full
@pytest.mark.parametrize("fire_on", [">=", ">"])
@pytest.mark.parametrize("kind", EXACT)
def test_numbers_that_fit_give_every_spike(kind, fire_on):
    """Dyadic weights, biases, thresholds and decays: not one flip, and ties are ties."""
    ties = 0
    for th, seed in product((0.0, 0.25, 1.0, -0.5), range(3)):
        if th == 0.0 and "lif" in kind:
            continue
        neuron = EXACT[kind](th, fire_on)
        bias = np.random.default_rng(seed).integers(-3, 4, 16) / 128
        if "hard" not in kind:
            bias /= 64  # the fraction bits of the state hold a bias, Loihi's own neuron has none
        first = ops.Linear(dyadic(16, 12, seed=seed), bias)
        machine = oracle.machine((12,), first, neuron, ops.Linear(dyadic(9, 16, seed=seed)), neuron)
        T = 6 if kind != "if, soft" else 30
        x = np.random.default_rng(seed).integers(0, 3, (T, 40, 12)).astype(np.float32)
        x[:, :10] = np.where(np.arange(12) == 0, 1, 0)  # small sums, so that some are nothing but the threshold
        x[:, 10:20] = np.minimum(x[:, 10:20], 1) * (np.random.default_rng(seed).random((T, 10, 12)) < 0.1)
        network, choices = made(machine, x)
        assert {choice.bits for choice in choices} == {8}
        trace = machine.trace(x.astype(np.float64))
        sent = Reference(network, 40).advance(encode(network, x))
        for layer, numbers in zip(network.layers, sent, strict=True):
            np.testing.assert_array_equal(numbers, trace.spikes[layer.name])
            ties += (trace.margin[layer.name] == 0).sum()
    assert ties


def test_outputs_are_what_units_say():
    """No neuron at the end: whole numbers, a unit for each channel, and a bias with fraction bits."""
    weight, bias = normal(5, 12), normal(5)
    machine = oracle.machine((12,), ops.Linear(weight, bias))
    x = np.random.default_rng(0).integers(0, 2, (4, 3, 12)).astype(np.float32)
    network, (choice,) = made(machine, x)
    sent = Reference(network, 3).advance(encode(network, x))[-1] * network.units
    scale = np.abs(weight).max(1) / 127
    expected = x @ (np.rint(weight / scale[:, None]) * scale[:, None]).T + bias
    np.testing.assert_allclose(sent, expected, atol=scale.max() / 256)
    assert choice.bits == 8


def test_latency_and_horizon():
    learned = zoo.neuron(zoo.LEARNED, None, zoo.STRICT)
    machine = oracle.machine((4,), ops.Linear(normal(3, 4)), learned, ops.Linear(normal(2, 3)))
    network, _ = made(machine, spikes(3, 1, 4))
    assert (network.horizon, network.latency) == (zoo.STEPS, 2)
    assert network.layers[0].neuron.integrate.columns.shape == (zoo.STEPS, zoo.STEPS)
    np.testing.assert_array_equal(
        network.layers[0].neuron.integrate.columns[1],
        [*np.rint(zoo.LEARNED.matrix[1:, 1] / np.abs(zoo.LEARNED.matrix).max() * 4096), 0],
    )
