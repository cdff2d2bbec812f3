"""The whole road by command: train, export, verify, run, inspect."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy import training
from tests.cli.conftest import call, shell, small_machine


@pytest.fixture(scope="module")
def artifact(trained):
    """What export makes of it."""
    out = trained.parent / "out"
    result = call("export", trained, "--to", "onnx", "--out", out)
    assert result.code == 0, result
    assert "faithful" in result.out
    assert "8 steps" in result.out
    assert f"next: psu-deploy verify {trained} {out / 'model.onnx'}" in result.err
    return out / "model.onnx"


class TestTrainedRun:
    def test_verify_goes_three_ways_on_the_test_data(self, cli, trained, artifact):
        result = cli("verify", trained, artifact, "--report", "report.json")
        assert result.code == 0, result
        assert "module vs machine" in result.out
        assert "machine vs onnx" in result.out
        assert "EQUIVALENT" in result.out
        report = json.loads(Path("report.json").read_text())
        assert report["ok"] is True
        neurons = 2 * training.load_run(trained).recipe.hidden
        assert report["spikes_compared"] == 2 * 8 * 360 * neurons

    def test_run_gives_the_accuracy_that_training_promised(self, cli, trained, artifact):
        recipe = training.load_run(trained).recipe
        x, labels = training.test_data(recipe)
        np.save("x.npy", x)
        result = cli("run", artifact, "--input", "x.npy", "--output", "y.npy", "--threads", 1)
        assert result.code == 0, result
        accuracy = (np.load("y.npy")[-1].argmax(1) == labels).mean()
        metrics = json.loads((trained / "metrics.json").read_text())
        assert accuracy == pytest.approx(metrics["test_accuracy"], abs=1e-9)

    def test_inspect_a_run(self, cli, trained):
        result = cli("inspect", trained)
        assert result.code == 0
        for text in ("recipe of", "rpsu", "SpikingNeuron", "horizon 8 steps"):
            assert text in result.out

    def test_inspect_the_artifact(self, cli, trained, artifact):
        result = cli("inspect", artifact)
        assert result.code == 0
        machine = psu.StateMachine.load(trained / "model.psm")
        for text in ("faithful", "8 steps", machine.content_hash, *machine.state_spec):
            assert text in result.out

    def test_verify_against_another_network(self, cli, trained):
        psu.export(small_machine(), "other.onnx")
        cli("verify", trained, "other.onnx").failed_with("the artifact takes input of shape (4,), the model (8,)")

    def test_training_again_in_the_same_folder(self, cli, trained):
        result = cli("train", "digits", "--out", trained)
        result.failed_with("there is a run in")
        result.failed_with("add --resume to continue it, --overwrite to start it anew, or name another folder")

    def test_training_anew_in_the_same_folder(self, cli, trained, tmp_path):
        folder = Path(shutil.copytree(trained, tmp_path / "run"))
        before = (folder / "weights.safetensors").read_bytes()
        arguments = ("train", "digits", "--epochs", 1, "--seed", 1, "--out", folder)
        cli(*arguments, "--resume").failed_with("seed 0 became 1")
        cli(*arguments, "--resume", "--overwrite").failed_with("--resume and --overwrite")
        assert (folder / "weights.safetensors").read_bytes() == before
        assert cli(*arguments, "--overwrite").code == 0
        assert training.load_run(folder).recipe.seed == 1

    def test_a_run_that_was_killed_before_its_first_checkpoint(self, cli, trained, tmp_path):
        (tmp_path / "run").mkdir()
        shutil.copy(trained / "recipe.json", tmp_path / "run")
        arguments = ("train", "digits", "--epochs", 1, "--out", "run")
        cli(*arguments).failed_with("--resume")
        cli("export", "run", "--out", "out").failed_with(
            "continue it by psu-deploy train with --resume, or start it anew with --overwrite"
        )
        assert cli(*arguments, "--resume").code == 0
        assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


class TestSavedMachine:
    @pytest.mark.full
    def test_export_to_a_folder_and_to_a_file(self, cli, saved):
        assert cli("export", saved, "--out", "deep/out").code == 0
        assert cli("export", saved, "--out", "deep/net.onnx").code == 0
        for path in ("deep/out/model.onnx", "deep/net.onnx"):
            assert psu.load(path).artifact.machine_hash == small_machine().content_hash

    def test_verify_goes_two_ways(self, cli, saved, exported):
        result = cli("verify", saved, exported, "--steps", 5, "--batch", 3, "--seed", 1)
        assert result.code == 0, result
        assert "machine vs onnx" in result.out
        assert "module" not in result.out
        assert f"EQUIVALENT: {5 * 3 * 16} spikes compared, 0 flips" in result.out

    @pytest.mark.full
    def test_verify_on_given_data(self, cli, saved, exported, data):
        result = cli("verify", saved, exported, "--data", data, "--report", "report.json")
        assert result.code == 0, result
        assert f"EQUIVALENT: {6 * 5 * 16} spikes compared" in result.out

    @pytest.mark.full
    def test_a_mismatch_is_exit_code_1(self, cli, saved, data):
        psu.export(small_machine(seed=1), "wrong.onnx")
        result = cli("verify", saved, "wrong.onnx", "--data", data, "--report", "report.json")
        assert result.code == 1
        assert "NOT EQUIVALENT" in result.out
        assert "it was made from another network" in result.out
        assert json.loads(Path("report.json").read_text())["ok"] is False

    @pytest.mark.full
    def test_run_on_the_engine_and_on_the_machine(self, cli, saved, exported, data):
        machine, x = small_machine(), np.load(data)
        for source in (saved, exported):
            result = cli("run", source, "--input", data, "--output", "y.npy")
            assert result.code == 0
            assert "wrote y.npy: (6, 5, 3) float32" in result.err
            np.testing.assert_allclose(np.load("y.npy"), machine.run(x), rtol=1e-5, atol=1e-5)

    def test_inspect(self, cli, saved):
        result = cli("inspect", saved)
        assert result.code == 0
        assert small_machine().summary() in result.out
        assert small_machine().content_hash in result.out


@pytest.mark.full
def test_demo_of_two_epochs(cli, monkeypatch):
    monkeypatch.setattr(training, "Recipe", partial(training.Recipe, epochs=2))
    result = cli("demo", "--neurons", "psu", "--out", "demo")
    assert result.code == 0, result
    report = json.loads(Path("demo", "report.json").read_text())
    assert report["ok"] is True
    assert [one["neuron"] for one in report["results"]] == ["psu"]
    assert "<h1>Safe to deploy</h1>" in Path("demo", "psu", "report.html").read_text()


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_demo(tmp_path):
    result = shell("demo", "--neurons", "psu", "--out", "demo", cwd=tmp_path, timeout=800)
    assert result.code == 0, result
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["ok"] is True
    assert [one["neuron"] for one in report["results"]] == ["psu"]
    assert report["results"][0]["serial_accuracy"] > 0.8
