"""A module that computes a little else than its type says is refused; what only rounds otherwise is not."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import to_state_machine
from psu_deploy.capture.along_time import spiking_unit
from psu_deploy.capture.examples import examples_for
from psu_deploy.capture.layers import STATELESS
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.machine import ops


def sequences_for(model):
    """Every example but those that are pictures."""
    return [example for example in examples_for(model) if not example.image]


LAYERS = {
    "linear": (nn.Linear(5, 4), (5,)),
    "conv": (nn.Conv1d(2, 3, 3), (2, 5)),
    "norm": (nn.BatchNorm1d(5), (5,)),
    "pool": (nn.AvgPool1d(2), (2, 4)),
    "sigmoid": (nn.Sigmoid(), (5,)),
}


def off_by(factor):
    """Converters that make every layer a little larger than its module."""

    def wrong(module, features):
        layer = STATELESS[type(module)](module, features)
        channels = layer.output_shape(features)[0]
        return layer, ops.ChannelAffine(np.full(channels, factor), np.zeros(channels))

    return {type(layer): wrong for layer, _ in LAYERS.values()}


@pytest.mark.full
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_one_percent_is_another_meaning(name, factor):
    layer, features = LAYERS[name]
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(psu.SpikingSequential(layer, psu.PSU()), features, converters=off_by(factor))
    assert [problem.path for problem in caught.value.problems] == ["0"]
    assert "does not compute what" in caught.value.problems[0].reason


@pytest.mark.parametrize("name", LAYERS)
def test_a_few_roundings_are_not(name):
    layer, features = LAYERS[name]
    to_state_machine(psu.SpikingSequential(layer, psu.PSU()), features, converters=off_by(1 + 1e-6))


@pytest.mark.parametrize("share", [1.1, 0.9])
def test_a_neuron_that_sees_a_tenth_more_or_less(share):
    """What passes by a tenth of V turns decisions whose margin is a hundredth of it, or a tenth."""

    def wrong(module, features):
        layer = spiking_unit(module, features)
        return replace(layer, integrate=ops.Leak(share * layer.integrate.gain, layer.integrate.decay))

    model = psu.SpikingSequential(nn.Linear(40, 40), psu.PSU())
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(model, (40,), converters={psu.PSU: wrong})
    assert "fires differently from its equations" in caught.value.problems[0].reason


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_are_followed(name):
    layer, features = deepcopy(LAYERS[name])
    layer.register_forward_hook(lambda module, inputs, output: output * 1.5)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 0.25,))
    model = psu.SpikingSequential(layer, psu.PSU(threshold=0.1)).eval()
    machine = to_state_machine(model, features)
    x = torch.randn(6, 2, *features)
    with torch.no_grad():
        assert torch.equal(machine.run(x), model(x))


def test_a_neuron_that_rounds_otherwise():
    neuron = psu.PSU()
    neuron.register_forward_pre_hook(lambda module, inputs: (inputs[0] * (1 + 1e-6),))
    to_state_machine(psu.SpikingSequential(nn.Linear(40, 40), neuron), (40,))


@pytest.mark.parametrize("horizon", [*range(1, 17), 30, 64])
@pytest.mark.parametrize("whole", [False, True])
def test_no_size_of_an_example_can_be_taken_for_another(horizon, whole):
    """Code that names a number means T or B, and the example tells which: nothing else in it is as large."""
    neuron = psu.PSN(horizon) if whole else psu.IPSU(horizon)
    examples = sequences_for(psu.SpikingSequential(nn.Linear(3, 3), neuron))
    assert [example.steps for example in examples] == ([horizon] if whole else sorted({min(horizon, 4), horizon}))
    for example in examples:
        assert example.batch > 1
        assert example.batch not in (example.steps, horizon)
        assert example.batch * example.steps != horizon


def test_without_a_horizon_four_steps_do():
    assert [(e.steps, e.batch) for e in sequences_for(psu.SpikingSequential(nn.Linear(3, 3), psu.PSU()))] == [(4, 3)]


def test_the_shortest_horizon_counts():
    model = psu.SpikingSequential(nn.Linear(3, 3), psu.IPSU(9), psu.RPSU(6))
    assert [example.steps for example in sequences_for(model)] == [4, 6]


POOLS = {nn.AvgPool1d: (), nn.MaxPool1d: (), nn.AvgPool2d: (7,), nn.MaxPool2d: (7,)}
"""Kind -> sizes of the axes behind the first."""


@pytest.mark.rows(30)
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [4, 5, 6, 7, 8])
def test_rounding_up_is_refused_where_a_window_overhangs(kind, padding, stride, size):
    """Where the windows end with the padded input, ceil_mode changes nothing."""
    sizes = (size, *POOLS[kind])
    model = psu.SpikingSequential(kind(3, stride, padding, ceil_mode=True), psu.PSU())
    if all(ends_with_the_input(n + 2 * padding, stride) for n in sizes):
        machine = to_state_machine(model, (2, *sizes))
        plain = kind(3, stride, padding)(torch.zeros(1, 2, *sizes))
        assert machine.shapes[machine.output] == tuple(plain.shape[1:])
        return
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(model, (2, *sizes))
    assert "ceil_mode=True" in caught.value.problems[0].reason


def ends_with_the_input(length, stride):
    return any(start + 3 == length for start in range(0, length, stride))
