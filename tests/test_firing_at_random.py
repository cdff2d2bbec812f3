"""SPSN: the same draw in module, machine and onnxruntime, and the right probabilities in each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.containers import SpikingSequential
from tests.helpers import apply, leak_matrix, noise, sigmoid

SAMPLES = 4000


def network(first=1, second=2):
    torch.manual_seed(0)
    return SpikingSequential(nn.Linear(3, 5), psu.SPSN(3.0, seed=first), nn.Linear(5, 4), psu.SPSN(seed=second)).eval()


def forms(model, features, tmp_path):
    """Name -> what runs a sequence, for every form of a model."""
    machine = psu.to_state_machine(model, features)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    return {
        "module": lambda x: model(torch.from_numpy(x)).detach().numpy(),
        "machine": machine.run,
        "onnx": runner.run,
    }


@pytest.mark.full
@pytest.mark.rows(2)
@pytest.mark.parametrize("steps", [1, 2, 63])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_form_draws_the_same(steps, batch, tmp_path):
    x = np.random.default_rng(0).normal(0, 2, (steps, batch, 3)).astype(np.float32)
    model = network()
    report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(3,)), x)
    assert report.ok, str(report)
    assert not report.spike_flips


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 2])
def test_every_form_draws_what_the_equations_say(seed, tmp_path):
    """sigmoid(V) > u by hand; margins smaller than float32 can tell are left out."""
    x = np.random.default_rng(0).normal(0, 2, (20, 3, 7)).astype(np.float32)
    margin = sigmoid(apply(leak_matrix(20, 0.5, 0.5), x.astype(float))) - noise(seed, x.shape)
    clear = np.abs(margin) > 1e-5
    assert clear.mean() > 0.99
    for name, run in forms(psu.SPSN(seed=seed).eval(), (7,), tmp_path).items():
        np.testing.assert_array_equal(run(x)[clear], (margin > 0)[clear], err_msg=name)


@pytest.mark.full
@pytest.mark.parametrize("current", [-1.0, 0.0, 2.0])
def test_every_form_fires_as_often_as_its_probability(current, tmp_path):
    """Mean over 4000 samples within 5 standard deviations of sigmoid(V), at every step and for every neuron."""
    x = np.full((5, SAMPLES, 2), current, np.float32)
    p = sigmoid(apply(leak_matrix(5, 0.5, 0.5), x[:, :1].astype(float)))[:, 0]
    for name, run in forms(psu.SPSN(seed=6).eval(), (2,), tmp_path).items():
        assert (np.abs(run(x).mean(1) - p) < 5 * np.sqrt(p * (1 - p) / SAMPLES)).all(), name


def correlation(first, second):
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.full
def test_layers_neurons_and_steps_draw_independently():
    """Correlations of spikes that have no common cause: within 5 standard deviations of zero."""
    x = np.zeros((2, SAMPLES, 2), np.float32)
    first, second = (psu.to_state_machine(psu.SPSN(seed=seed).eval(), (2,)).run(x) for seed in (0, 1))
    pairs = {"seeds": (first, second), "steps": (first[0], first[1]), "neurons": (first[..., 0], first[..., 1])}
    pairs["samples"] = (first[:, 1:], first[:, :-1])
    for name, (one, other) in pairs.items():
        assert abs(correlation(one, other)) < 5 / np.sqrt(one.size), name


def test_two_layers_with_one_seed_draw_alike():
    """Why layers of one network want seeds of their own."""
    x = torch.zeros(50, 4, 3)
    draw, same, other = psu.SPSN(seed=1).eval(), psu.SPSN(seed=1).eval(), psu.SPSN(seed=2).eval()
    assert torch.equal(draw(x), same(x))
    assert not torch.equal(draw(x), other(x))


@pytest.mark.full
def test_another_seed_is_another_sample(tmp_path):
    x = np.random.default_rng(0).normal(0, 2, (30, 4, 3)).astype(np.float32)
    first, second = (psu.to_state_machine(network(seed, 9), (3,)) for seed in (1, 5))
    assert (first.run(x) != second.run(x)).any()
    assert first.content_hash != second.content_hash


@pytest.mark.full
def test_goes_on_where_it_stopped(tmp_path):
    """The noise counts steps, not calls."""
    machine = psu.to_state_machine(network(), (3,))
    x = np.random.default_rng(0).normal(0, 2, (12, 2, 3)).astype(np.float32)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    whole = machine.run(x)
    runner.run(x[:5])
    np.testing.assert_array_equal(runner.run(x[5:], reset=False), whole[5:])


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.999])
def test_a_masked_psn_that_still_looks_ahead_is_refused(lambda_):
    model = SpikingSequential(nn.Linear(3, 4), psu.MaskedPSN(6, 2, lambda_), nn.Linear(4, 2))
    with pytest.raises(UnsupportedModelError) as caught:
        psu.to_state_machine(model, (3,))
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind) == ("1", "MaskedPSN")
    assert "rows still look ahead, so there is no serial form" in problem.reason
    assert "lambda_ = 1.0" in problem.remedy
    model[1].lambda_ = 1.0
    assert psu.to_state_machine(model, (3,)).horizon == 6
