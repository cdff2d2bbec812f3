"""Random networks: the module in parallel, its state machine and the exported file in onnxruntime spike alike."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import psu_deploy as psu
from psu_deploy.nn.neurons import LIF, Neuron
from tests.amount import tries
from tests.verify.networks import NEURONS, RANDOM, Example, MeanOverTime, examples, randomised

KNIFE_EDGE = 1e-4
"""Rounding of 40 steps in float32 moves a margin by about 1e-5 here; a random margin is of size 1."""


def seen_by_hooks(model, x):
    """Path of every neuron -> the current that went in and the spikes that came out, in the order they ran."""
    seen = {}
    units = {path: module for path, module in model.named_modules() if isinstance(module, Neuron)}
    handles = [
        unit.register_forward_hook(lambda _, i, o, path=path: seen.update({path: (i[0], o)}))
        for path, unit in units.items()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def exact_margin(neuron, current):
    """V - R - V_th in float64, or what else decides, of one neuron on the current it was given."""
    exact = deepcopy(neuron).double()
    with torch.no_grad():
        return exact.margin(current.double())[2]


def check_every_mismatch_is_a_knife_edge(example, trace):
    """An own look at the spikes, without verify. Layers behind one that differs see other input and are not judged."""
    modules = dict(example.model.named_modules())
    seen = seen_by_hooks(example.model, example.x)
    assert set(trace.spikes) == set(seen)
    for path, (current, spikes) in seen.items():
        mismatch = spikes.numpy() != trace.spikes[path]
        if isinstance(modules[path], LIF):  # its own spikes feed back: only the first mismatch is judged
            mismatch &= mismatch.cumsum(0) == 1
        margins = exact_margin(modules[path], current)[torch.from_numpy(mismatch)]
        assert (margins.abs() < KNIFE_EDGE).all(), (path, margins)
        if mismatch.any():
            return


def check_float32(example, path):
    """Module == machine == onnxruntime, up to knife-edge decisions that are shown as such."""
    machine = psu.to_state_machine(example.model, tuple(example.x.shape[2:]))
    artifact = psu.export(machine, path)
    runner, x = psu.load(artifact, threads=1), example.x.numpy()
    trace = runner.trace(x)
    check_every_mismatch_is_a_knife_edge(example, trace)
    report = psu.verify(example.model, artifact, example.x, allow_silent=True)
    assert report.ok, str(report)
    assert all(decision.knife_edge for comparison in report.comparisons for decision in comparison.disputed)
    if not report.spike_flips:
        expected = machine.run(x)
        np.testing.assert_allclose(runner.run(x), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(as_last(example, expected), forward(example), rtol=1e-4, atol=1e-4)


def check_float64(example):
    """Nothing to excuse: not one spike differs."""
    exact = Example(deepcopy(example.model).double(), example.x.double())
    machine = psu.to_state_machine(exact.model, tuple(exact.x.shape[2:]))
    trace = machine.trace(exact.x)
    for path, (_, spikes) in seen_by_hooks(exact.model, exact.x).items():
        assert torch.equal(trace.spikes[path], spikes), path
    torch.testing.assert_close(as_last(exact, machine.run(exact.x)), forward(exact), rtol=1e-9, atol=1e-9)


def forward(example):
    with torch.no_grad():
        y = example.model(example.x)
    return y if example.x.dtype == torch.float64 else y.numpy()


def as_last(example, y):
    return y[-1] if isinstance(example.model, MeanOverTime) else y


@pytest.mark.full
@given(example=examples())
@settings(max_examples=tries(9), **RANDOM)
def test_module_machine_and_onnxruntime_spike_alike(example, tmp_path):
    check_float32(example, tmp_path / "net.onnx")


@pytest.mark.full
@given(example=examples())
@settings(max_examples=tries(15), **RANDOM)
def test_module_and_machine_are_equal_in_float64(example):
    check_float64(example)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@given(example=examples())
@settings(max_examples=200, **RANDOM)
def test_many_random_networks(example, tmp_path):
    check_float32(example, tmp_path / "net.onnx")
    check_float64(example)


@pytest.mark.rows(4)
@pytest.mark.full
@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("T", [1, 2, 40])
def test_every_neuron_alone(name, T, tmp_path):
    torch.manual_seed(T)
    network = psu.SpikingSequential(nn.Linear(5, 7), nn.BatchNorm1d(7), NEURONS[name](T, 2.0), nn.Linear(7, 3))
    example = Example(randomised(network), torch.randn(T, 3, 5) * 2 + 0.5)
    check_float32(example, tmp_path / "net.onnx")
    check_float64(example)


@pytest.mark.full
def test_the_random_networks_fire(tmp_path):
    """Guards all of the above: spikes of silent networks are alike, whatever is wrong."""
    rates = []

    @given(example=examples())
    @settings(max_examples=30, derandomize=True, database=None, **RANDOM)
    def collect(example):
        rates.extend(float(spikes.mean()) for _, spikes in seen_by_hooks(example.model, example.x).values())

    collect()
    assert np.mean([0.05 < rate < 0.95 for rate in rates]) > 0.5
