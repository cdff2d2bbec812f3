"""An artifact of another network is said to be one before anything else is said; what runs it is a runner of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.runtime import Runner

T = 6
ANOTHER = "the artifact says that it was made from another network"


def machine(features=4, steps=T, seed=0):
    torch.manual_seed(seed)
    model = psu.SpikingSequential(nn.Linear(features, 16), psu.RPSU(steps, threshold=0.1), nn.Linear(16, 3))
    return psu.to_state_machine(model, (features,))


def sequence(features=4, steps=T):
    return np.random.default_rng(0).normal(0.5, 2.0, (steps, 3, features)).astype(np.float32)


@pytest.fixture
def artifact(tmp_path):
    """Six steps of four features."""
    return psu.export(machine(), tmp_path / "net.onnx")


class TestAnotherNetwork:
    @pytest.mark.full
    def test_whose_input_x_is(self, artifact):
        """x fits the artifact; that it does not fit the machine is no news."""
        with pytest.raises(
            psu.InputError, match=r"takes input of shape \(4,\), the model \(5,\): it was exported from"
        ):
            psu.verify(machine(5), artifact, sequence(4))

    @pytest.mark.full
    @pytest.mark.parametrize("x", [sequence()[:, :, :2], sequence(steps=9), np.full_like(sequence(), np.nan)])
    def test_and_x_does_not_fit_either(self, artifact, x):
        with pytest.raises(psu.InputError, match=f"^{ANOTHER}.*Besides, x "):
            psu.verify(machine(seed=1), artifact, x)

    @pytest.mark.full
    def test_of_fewer_steps(self, artifact):
        report = psu.verify(machine(steps=9), artifact, sequence(steps=9))
        assert not report.ok
        assert report.notes[0].startswith(ANOTHER)

    def test_a_machine_of_fewer_steps(self):
        with pytest.raises(psu.InputError, match=f"^{ANOTHER}.*Besides, x has 9 steps"):
            psu.verify(machine(steps=9), machine(), sequence(steps=9))

    @pytest.mark.full
    def test_of_more_steps_than_x_has(self, artifact):
        """What x lacks is said too, but not first."""
        report = psu.verify(machine(seed=1), artifact, sequence(steps=3))
        assert [note.partition(" (")[0] for note in report.notes[:2]] == [
            ANOTHER,
            "x has 3 of the 6 steps the network is defined for",
        ]

    @pytest.mark.full
    def test_the_same_network_is_not_called_another(self, artifact):
        with pytest.raises(psu.HorizonError, match=r"^x has 9 steps"):
            psu.verify(machine(), artifact, sequence(steps=9))


class Duck:
    """What had all the methods of a runner, and is none."""

    def __init__(self, runner):
        self.artifact, self.input_shape, self.trace, self.structure = (
            runner.artifact,
            runner.input_shape,
            runner.trace,
            runner.structure,
        )


class Plain(Runner):
    """A runner of somebody else: what must be there, and nothing more."""

    artifact = input_shape = None

    def __init__(self, runner):
        self.runner, self.artifact, self.input_shape = runner, runner.artifact, runner.input_shape

    def reset(self, batch_size=1, state=None):
        self.runner.reset(batch_size, state)

    def step(self, x):
        return self.runner.step(x)

    def run(self, x, *, reset=True):
        return self.runner.run(x, reset=reset)

    def trace(self, x, state=None):
        return self.runner.trace(x, state)


class TestRunnersOfOthers:
    @pytest.mark.full
    def test_one_that_is_not_derived_is_refused(self, artifact):
        said = "got Duck; what runs the files of a target of your own derives from psu_deploy.runtime.Runner"
        with pytest.raises(psu.InputError, match=said):
            psu.verify(machine(), Duck(psu.load(artifact)), sequence())

    def test_what_must_be_there(self):
        with pytest.raises(TypeError, match="abstract"):
            Runner()

    @pytest.mark.full
    def test_the_rest_has_a_default(self, artifact):
        runner = Plain(psu.load(artifact))
        report = psu.verify(machine(), runner, sequence())
        assert report.ok
        assert report.comparisons[0].second == "onnx"
        assert "behaviour only: what runs onnx files cannot hold them against an export" in report.verdict
        assert (runner.name, runner.engine, runner.state, runner.facts, runner.report) == ("onnx", "onnx", {}, {}, None)
        assert (runner.rounds, runner.repeats, runner.resumes, runner.aligns) == (False, None, True, False)
        assert runner.contents.inputs == (("x", (4,), "float32"),)


class Scale(nn.Module):
    """A layer of somebody else."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return torch.where(x == x, x * self.factor, x)  # a comparison, which nothing here follows


def scale(module, features):
    return ops.ChannelAffine(np.full(features[0], module.factor.item()), np.zeros(features[0]))


class TestConverters:
    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        layers = nn.Linear(4, 16), Scale(2.5), psu.RPSU(T, threshold=0.1), nn.Linear(16, 3)
        return psu.SpikingSequential(*layers)

    @pytest.mark.full
    def test_a_layer_of_your_own_keeps_its_proof(self, model, tmp_path):
        artifact = psu.export(model, tmp_path / "net.onnx", input_shape=(4,), converters={Scale: scale})
        report = psu.verify(model, artifact, sequence(), converters={Scale: scale})
        assert report.ok
        assert [(c.first, c.second) for c in report.comparisons] == [("module", "machine"), ("machine", "onnx")]
        assert report.structure == type(report.structure)()  # number for number
        with torch.no_grad():
            (expected,) = model(torch.from_numpy(sequence()))[-1:]
        np.testing.assert_allclose(psu.load(artifact).run(sequence())[-1], expected, rtol=1e-5, atol=1e-5)

    def test_a_wrong_converter_is_found_out(self, model, tmp_path):
        def wrong(module, features):
            return ops.ChannelAffine(np.full(features[0], 2.0), np.zeros(features[0]))

        with pytest.raises(psu.UnsupportedModelError, match="Scale"):
            psu.export(model, tmp_path / "net.onnx", input_shape=(4,), converters={Scale: wrong})

    @pytest.mark.full
    def test_without_them_it_is_refused(self, model, tmp_path):
        artifact = psu.export(model, tmp_path / "net.onnx", input_shape=(4,), converters={Scale: scale})
        for call in (
            lambda: psu.export(model, tmp_path / "net.onnx", input_shape=(4,)),
            lambda: psu.verify(model, artifact, sequence()),
        ):
            with pytest.raises(psu.UnsupportedModelError, match="state machine"):
                call()

    @pytest.mark.full
    def test_of_a_machine_there_is_nothing_to_convert(self, artifact, tmp_path):
        for call in (
            lambda: psu.export(machine(), tmp_path / "other.onnx", converters={Scale: scale}),
            lambda: psu.verify(machine(), artifact, sequence(), converters={Scale: scale}),
        ):
            with pytest.raises(psu.InputError, match="this is a machine already"):
                call()
