"""A target of another package is a target like ours: in Python, on the command line, in the help, for the doctor."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy import exporters
from tests.cli import conftest
from tests.verify.networks import randomised

PLUGIN = Path(__file__).parent / "plugin"


def machine(neuron=None):
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(4, 16), neuron or psu.LIF(2.0), nn.Linear(16, 3))
    return psu.to_state_machine(randomised(model), (4,))


@pytest.fixture
def x(tmp_path):
    x = np.random.default_rng(0).normal(0.5, 2.0, (6, 5, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return x


@pytest.fixture
def installed(monkeypatch):
    """As pip would have it: its folder is on the path."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield
    sys.modules.pop("psu_npz", None)


def broken(folder, name, value, code):
    """A plugin that does not work, in a folder for the path."""
    (folder / f"{name}-1.0.dist-info").mkdir(parents=True)
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[psu_deploy.exporters]\n{name} = {value}\n")
    (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / f"{name}_package.py").write_text(code)


class TestInPython:
    @pytest.mark.full
    def test_export_load_verify(self, installed, tmp_path, x):
        artifact = psu.export(machine(), tmp_path / "net.npz", target="npz", label="mine")
        assert np.load(artifact.path)["label"] == "mine"
        np.testing.assert_allclose(psu.load(artifact).run(x), machine().run(x), rtol=1e-5, atol=1e-5)
        report = psu.verify(machine(), artifact, x)
        assert report.ok
        assert report.spikes_compared == 6 * 5 * 16

    def test_what_it_cannot_do_it_says_as_ours_do(self, installed, tmp_path):
        with pytest.raises(psu.UnsupportedModelError, match="this target has Linear and LIF"):
            psu.export(machine(psu.RPSU(6)), tmp_path / "net.npz", target="npz")

    def test_an_option_that_it_has_not(self, installed, tmp_path):
        with pytest.raises(psu.InputError, match="the target 'npz' has no option 'lable'; it takes label"):
            psu.export(machine(), tmp_path / "net.npz", target="npz", lable="mine")

    def test_it_is_among_those_there_are(self, installed):
        with pytest.raises(psu.InputError, match="choose one of c, lava, nir, npz, onnx"):
            psu.export(machine(), "net.tflite", target="tflite")
        with pytest.raises(psu.ArtifactError, match=r"known suffixes: \.onnx, \.nir, \.net, \.c, \.npz"):
            psu.load("net.tflite")


BROKEN = {
    "import": ("theirs_package:TARGET", "import tensorflow_lite_of_theirs", "ModuleNotFoundError: No module named"),
    "name": ("theirs_package:TARGETS", "", "AttributeError: "),
    "kind": ("theirs_package:export", "def export(): ...", "it is no psu_deploy.exporters.Target, but a function"),
    "title": (
        "theirs_package:TARGET",
        "from psu_deploy.exporters import Target\nTARGET = Target('ours', '', '.x', '', '')",
        "its target is called 'ours'",
    ),
    "suffix": (
        "theirs_package:TARGET",
        "from psu_deploy.exporters import Target\nTARGET = Target('theirs', '', '.onnx', '', '')",
        "another target writes .onnx files already",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
class TestOneThatDoesNotWork:
    @pytest.fixture
    def sentence(self, kind, tmp_path, monkeypatch):
        value, code, reason = BROKEN[kind]
        broken(tmp_path / "path", "theirs", value, code)
        monkeypatch.syspath_prepend(str(tmp_path / "path"))
        yield f"the plugin 'theirs' ({value}) cannot be used: {reason}"
        sys.modules.pop("theirs_package", None)

    def test_it_is_named(self, sentence):
        for call in (lambda: psu.export(machine(), "a.x", target="theirs"), lambda: psu.load("a.theirs")):
            with pytest.raises(psu.PsuDeployError) as raised:
                call()
            assert sentence in str(raised.value)
            assert len(str(raised.value).splitlines()) == 1

    @pytest.mark.full
    def test_the_others_work(self, sentence, installed, tmp_path, x):
        for name, target in (("net.onnx", "onnx"), ("net.npz", "npz")):
            artifact = psu.export(machine(), tmp_path / name, target=target)
            assert psu.load(artifact).run(x).shape == (6, 5, 3)


def test_ours_cannot_be_replaced(tmp_path, monkeypatch):
    code = "from psu_deploy.exporters import Target\nTARGET = Target('onnx', '', '.x', '', '')"
    broken(tmp_path, "onnx", "onnx_package:TARGET", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert exporters.target_named("onnx") is exporters.EXPORTERS["onnx"]
    assert "there is a target of that name already" in exporters.installed_plugins().broken["onnx"]


class TestOnTheCommandLine:
    @pytest.fixture
    def cli(self, installed, tmp_path, monkeypatch):
        """The command of this process, made anew: its options are those of what is installed."""
        machine().save(tmp_path / "net.psm")
        monkeypatch.chdir(tmp_path)
        made_of = ("psu_deploy.cli.export", "psu_deploy.cli")
        for name in made_of:
            importlib.reload(sys.modules[name])
        monkeypatch.setattr(conftest, "main", sys.modules["psu_deploy.cli"].main)
        yield conftest.call
        sys.path.remove(str(PLUGIN))
        for name in made_of:
            importlib.reload(sys.modules[name])
        sys.path.insert(0, str(PLUGIN))

    @pytest.mark.full
    def test_the_whole_road(self, cli, x):
        done = cli("export", "net.psm", "--to", "npz", "--label", "mine", "--out", "out")
        assert done.code == 0, done
        assert np.load("out/model.npz")["label"] == "mine"
        assert "next: psu-deploy verify net.psm out/model.npz\n" in done.err
        done = cli("verify", "net.psm", "out/model.npz", "--double", "--report", "-")
        assert done.code == 0, done
        assert json.loads(done.out)["ok"] is True
        done = cli("run", "out/model.npz", "--input", "x.npy", "--output", "y.npy", "--slots", 2)
        assert done.code == 0, done
        np.testing.assert_allclose(np.load("y.npy"), machine().run(x), rtol=1e-5, atol=1e-5)

    @pytest.mark.full
    def test_help(self, cli):
        text = cli("export", "--help").out
        assert "NPZ: text to keep in the file." in text
        assert "Target: onnx, nir, lava, c, npz." in text
        text = cli("run", "--help").out
        assert "NPZ: samples at a time; default 8." in text
        assert "ONNX: of onnxruntime" in text

    @pytest.mark.full
    def test_an_option_of_it_with_another_target(self, cli):
        said = "--label is an option of --to npz, not of --to onnx"
        cli("export", "net.psm", "--label", "mine", "--out", "out").failed_with(said)

    def test_a_number_that_is_too_small(self, cli):
        words = ("run", "net.npz", "--input", "x.npy", "--output", "y.npy", "--slots", 0)
        cli(*words).failed_with("--slots must be a whole number in 1..64, got 0")

    def test_the_doctor_looks_at_it(self, cli, tmp_path, monkeypatch):
        broken(tmp_path / "path", "theirs", *BROKEN["import"][:2])
        monkeypatch.syspath_prepend(str(tmp_path / "path"))
        doctor = sys.modules["psu_deploy.cli.doctor"]
        monkeypatch.setattr(doctor, "_OURS", {})  # importing all packages takes seconds
        monkeypatch.setattr(doctor, "_TRAINING", {})
        monkeypatch.setattr(doctor, "_checks", list)
        monkeypatch.setattr(importlib, "import_module", lambda name: None)
        done = cli("doctor")
        assert done.code == 1
        assert "psu-npz" in done.out
        assert "the plugin 'theirs' (theirs_package:TARGET) cannot be used: ModuleNotFoundError" in done.out


@pytest.mark.full
def test_as_a_person_has_it(tmp_path):
    """In a process of its own, where nothing was made anew."""
    command = [sys.executable, "-m", "psu_deploy", "export", "--help"]
    environment = os.environ | {"PYTHONPATH": str(PLUGIN), "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "NPZ: text to keep in the file." in done.stdout
