"""One image shown at every step: its first layers are computed in the first step and never again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import InputError
from psu_deploy.machine import ops
from psu_deploy.nn.along_time import DirectEncoding
from psu_deploy.nn.containers import SpikingSequential
from tests.helpers import step_by_step

T = 6


def network():
    torch.manual_seed(0)
    encoding = DirectEncoding(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
    return SpikingSequential(encoding, psu.LIF(threshold=0.2), nn.Flatten(), nn.Linear(3 * 16, 5)).eval()


def image(batch=2, steps=T):
    shown = np.random.default_rng(0).normal(0.0, 2.0, (1, batch, 2, 4, 4)).astype(np.float32)
    return np.repeat(shown, steps, axis=0)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def machine(model):
    return psu.to_state_machine(model, (2, 4, 4))


@pytest.fixture(scope="module")
def path(machine, tmp_path_factory):
    return psu.export(machine, tmp_path_factory.mktemp("static") / "net.onnx").path


def kinds(nodes):
    return [node.op_type for node in nodes]


@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 2, 63])
@pytest.mark.parametrize("batch", [1, 3])
def test_module_machine_and_onnxruntime_agree(model, path, steps, batch):
    report = psu.verify(model, path, image(batch, steps))
    assert report.ok, str(report)
    assert not report.spike_flips


def test_equals_the_layers_on_every_step(model, machine):
    """Without the wrapper: torch runs convolution, BatchNorm and ReLU on every image of the sequence."""
    x = torch.from_numpy(image())
    plain = SpikingSequential(*model[0].layers, *list(model)[1:]).eval()
    with torch.no_grad():
        np.testing.assert_allclose(machine.run(x), plain(x), rtol=1e-4, atol=1e-5)


def test_the_first_layers_are_computed_once(machine):
    first = [node.name for node in machine.nodes if isinstance(node.layer, ops.Conv2d | ops.Activation)]
    assert machine.once == set(first)
    (hold,) = [node for node in machine.nodes if isinstance(node.layer, ops.Hold)]
    assert hold.inputs[0] in machine.once
    assert machine.state_spec[f"{hold.name}.value"].shape == (3, 4, 4)


def test_onnxruntime_convolves_in_the_first_step_only(path):
    """The convolution stands inside the then-branch of an `If`, and nowhere else."""
    graph = onnx.load(path).graph
    (choice,) = [node for node in graph.node if node.op_type == "If"]
    branches = {attribute.name: kinds(attribute.g.node) for attribute in choice.attribute}
    assert branches["then_branch"][:2] == ["Conv", "Relu"]
    assert branches["else_branch"] == ["Identity"]
    assert not {"Conv", "Relu"} & set(kinds(graph.node))


def test_what_is_shown_later_changes_nothing(machine, path):
    x, runner = image(), psu.load(path, threads=1)
    changed = x.copy()
    changed[1:] = np.random.default_rng(1).normal(0, 100, changed[1:].shape)
    np.testing.assert_array_equal(step_by_step(machine, changed)[0], machine.run(x))
    runner.reset(x.shape[1])
    np.testing.assert_array_equal(np.stack([runner.step(x_t) for x_t in changed]), runner.run(x))
    assert (machine.run(x + 1.0) != machine.run(x)).any()


def test_a_sequence_that_changes_is_refused(machine, path, model):
    """Nobody would know that all but its first step is ignored."""
    x, runner = image(), psu.load(path, threads=1)
    x[3, 1, 0, 0, 0] += 1.0
    for run in (machine.run, machine.trace, runner.run, runner.trace):
        with pytest.raises(InputError, match=r"reads its input in the first step only, .* but x changes"):
            run(x)
    with pytest.raises(InputError):
        psu.verify(machine, path, x)
    assert machine.static_input
    assert runner.artifact.static_input


def test_a_second_run_shows_another_image(machine, path):
    runner, first, second = psu.load(path, threads=1), image(), image() * -1.5
    for x in (first, second, first):
        np.testing.assert_allclose(runner.run(x), machine.run(x), rtol=1e-4, atol=1e-5)


def test_goes_on_from_a_state(machine):
    x = image()
    head, state = step_by_step(machine, x[:2])
    tail = machine.run(np.zeros_like(x[2:]), state)
    np.testing.assert_array_equal(np.concatenate([head, tail]), machine.run(x))


def test_the_module_refuses_input_that_changes(model):
    x = torch.from_numpy(image())
    x[3, 0, 1, 2, 2] += 1e-3
    with pytest.raises(InputError, match="must be the same at every step"):
        model(x)


@pytest.mark.full
def test_verify_refuses_input_that_changes(model, path):
    x = image()
    x[3] += 1.0
    with pytest.raises(InputError, match="must be the same at every step"):
        psu.verify(model, path, x)
