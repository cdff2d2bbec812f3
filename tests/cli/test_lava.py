"""The road to Lava by command: export, verify, run, setup, and what the doctor says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import MissingExtraError
from psu_deploy.exporters.lava import environment
from tests.cli.conftest import call, small_machine


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every file first, in case it is damaged. Ours are not."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)


@pytest.fixture
def written(cli, saved, data):
    """The saved machine as a .net file."""
    result = cli("export", saved, "--to", "lava", "--calibrate", data, "--out", "net.net")
    assert result.code == 0, result
    return Path("net.net").resolve()


@pytest.mark.full
def test_export_a_saved_machine(cli, saved, data, tmp_path):
    result = cli("export", saved, "--to", "lava", "--calibrate", data, "--out", "out")
    assert result.code == 0, result
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.net", "model.quantisation.json"]
    for text in ("Loihi-2-style fixed point", "approximate", "dense 4 -> 16, PSU", "latency", "2 steps"):
        assert text in result.out
    assert f"next: psu-deploy verify {saved} out/model.net --data {data}" in result.err
    assert psu.load("out/model.net", simulator="integer").artifact.machine_hash == small_machine().content_hash


@pytest.mark.full
def test_the_option_has_two_names(cli, saved, data):
    for name in ("--calibrate", "--calibration"):
        assert cli("export", saved, "--to", "lava", name, data, "--out", f"{name[2:]}.net").code == 0
    assert Path("calibrate.net").is_file()
    assert Path("calibration.net").is_file()


@pytest.mark.full
def test_the_input_range(cli, saved, data):
    x = np.load(data)
    x[0, 0, 0] = 1000.0
    np.save("x.npy", np.tile(x, (1, 60, 1)))
    units = []
    for kind in ("max", "percentile"):
        options = ("--calibrate", "x.npy", "--input-range", kind, "--out", f"{kind}.net")
        assert cli("export", saved, "--to", "lava", *options).code == 0
        units.append(psu.load(f"{kind}.net", simulator="integer").facts["code"]["unit"])
    assert units[0] >= units[1]


def test_a_run_folder_brings_its_own_data(cli, trained):
    result = cli("export", trained, "--to", "lava", "--out", "net.net")
    assert result.code == 0, result
    runner = psu.load("net.net", simulator="integer")
    assert runner.report.samples == 360
    assert cli("verify", trained, "net.net", "--simulator", "integer").code == 0


def test_nothing_to_calibrate_with(cli, saved, tmp_path):
    cli("export", saved, "--to", "lava", "--out", "out").failed_with("add --calibrate x.npy")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("lava", ["--simulator", "norse"], "--simulator is an option of --to nir, not of --to lava"),
        ("lava", ["--allow-approximation"], "--allow-approximation is an option of --to nir, not of --to lava"),
        ("onnx", ["--input-range", "max"], "--input-range is an option of --to lava and --to c, not of --to onnx"),
        ("nir", ["--input-range", "max"], "--input-range is an option of --to lava and --to c, not of --to nir"),
        (
            "onnx",
            ["--calibrate", "x.npy"],
            "--calibration/--calibrate is an option of --to nir, --to lava and --to c, not of --to onnx",
        ),
        ("lava", ["--max-flip-rate", "0.1"], "--max-flip-rate limits an approximation"),
    ],
)
def test_options_of_other_targets(cli, saved, tmp_path, target, options, message):
    cli("export", saved, "--to", target, "--out", "out", *options).failed_with(message)
    assert not (tmp_path / "out").exists()


def test_a_range_that_is_none(cli, saved, data):
    options = ("--calibrate", data, "--input-range", "mean", "--out", "out")
    cli("export", saved, "--to", "lava", *options).failed_with("input_range must be one of max, percentile, got 'mean'")


@pytest.mark.parametrize(("target", "name"), [("lava", "net.onnx"), ("onnx", "net.net"), ("lava", "net.nir")])
def test_a_file_of_another_target(cli, saved, data, target, name):
    options = ("--calibrate", data) if target == "lava" else ()
    suffix = {"lava": ".net", "onnx": ".onnx"}[target]
    cli("export", saved, "--to", target, *options, "--out", name).failed_with(
        f"a file for --to {target} ends in {suffix}, got {name}"
    )


def test_calibration_of_another_shape(cli, saved):
    np.save("x.npy", np.zeros((6, 1, 5), np.float32))
    cli("export", saved, "--to", "lava", "--calibrate", "x.npy", "--out", "out").failed_with("(T, B, 4)")
    cli("export", saved, "--to", "lava", "--calibrate", "y.npy", "--out", "out").failed_with("cannot read y.npy")


@pytest.mark.full
def test_verify_in_whole_numbers(cli, saved, written, data):
    result = cli("verify", saved, written, "--data", data, "--simulator", "integer", "--report", "report.json")
    assert result.code == 0, result
    assert "machine vs integer reference (measured)" in result.out
    assert "MEASURED: rounding to integers changed" in result.out
    said = json.loads(Path("report.json").read_text(), parse_constant=pytest.fail)
    assert said["comparisons"][0]["rule"] == "measured"


@pytest.mark.full
def test_run_in_whole_numbers(cli, written, data):
    result = cli("run", written, "--input", data, "--output", "y.npy", "--simulator", "integer")
    assert result.code == 0, result
    np.testing.assert_array_equal(np.load("y.npy"), psu.load(written, simulator="integer").run(np.load(data)))


@pytest.mark.full
def test_run_for_any_number_of_steps(cli, data):
    """Row t of the output belongs to row t of the input: the runner has taken Lava's latency out."""
    torch.manual_seed(0)
    model = psu.SpikingSequential(nn.Linear(4, 16), psu.PSU(threshold=0.1), nn.Linear(16, 3)).eval()
    x = np.load(data)
    psu.export(model, "net.net", target="lava", input_shape=(4,), calibration=x)
    result = cli("run", "net.net", "--input", data, "--output", "y.npy", "--simulator", "integer")
    assert result.code == 0, result
    expected = psu.to_state_machine(model, (4,)).run(x)
    assert np.abs(np.load("y.npy") - expected).mean() < 0.05 * np.abs(expected).mean()


@pytest.mark.full
def test_what_runs_it_is_something_else(cli, saved, written, data):
    for verb in (("verify", saved, written, "--data", data), ("run", written, "--input", data, "--output", "y.npy")):
        cli(*verb, "--simulator", "norse").failed_with("one of lava, integer, got 'norse'")
        cli(*verb, "--timeout", 0, "--simulator", "integer").failed_with("timeout is a number of seconds")
    cli("run", written, "--input", data, "--output", "y.npy", "--threads", 1).failed_with("no option 'threads'")


@pytest.mark.full
def test_in_lava(cli, saved, written, data):
    try:
        environment.find()
    except MissingExtraError as error:
        pytest.skip(f"NOTHING WAS RUN IN LAVA: {error}")
    result = cli("verify", saved, written, "--data", data)
    assert result.code == 0, result
    assert "integer reference vs Lava, fixed point (number for number)" in result.out
    assert "EQUIVALENT: 480 spikes compared, 0 flips; rounding to integers changed" in result.out
    assert cli("run", written, "--input", data, "--output", "y.npy").code == 0
    np.testing.assert_array_equal(np.load("y.npy"), psu.load(written, simulator="integer").run(np.load(data)))


class TestEnvironment:
    FOUND = environment.LavaEnvironment(Path("/somewhere/bin/python"), "a test")

    @pytest.fixture(autouse=True)
    def _no_packages(self, monkeypatch, cli):
        """Importing all packages takes seconds."""
        monkeypatch.setattr(sys.modules["psu_deploy.cli.doctor"], "_packages", dict)

    def missing(self):
        raise MissingExtraError("there is none; make it with `psu-deploy lava setup`")

    def test_setup(self, monkeypatch):
        monkeypatch.setattr(environment, "setup", lambda progress: progress("working") or self.FOUND)
        result = call("lava", "setup")
        assert result.code == 0
        for text in ("Lava is ready", "/somewhere/bin/python", "a test"):
            assert text in result.out
        assert "next: psu-deploy export model.psm --to lava" in result.err

    def test_setup_that_fails(self, monkeypatch):
        monkeypatch.setattr(environment, "setup", lambda progress: self.missing())
        call("lava", "setup").failed_with("there is none")

    def test_the_doctor_names_the_interpreter(self, monkeypatch):
        monkeypatch.setattr(environment, "find", lambda: self.FOUND)
        result = call("doctor")
        assert result.code == 0
        assert "Lava: ok, /somewhere/bin/python (a test)" in result.out

    def test_what_is_not_there_is_no_illness(self, monkeypatch):
        monkeypatch.setattr(environment, "find", self.missing)
        result = call("doctor")
        assert result.code == 0
        assert "Lava: there is none; make it with `psu-deploy lava setup`" in result.out

    @pytest.mark.full
    def test_running_without_lava(self, monkeypatch, written, data):
        monkeypatch.setattr("psu_deploy.exporters.lava.runner.find", self.missing)
        call("run", written, "--input", data, "--output", "y.npy").failed_with("make it with `psu-deploy lava setup`")

    def test_help(self):
        assert "psu-deploy lava setup" in call("lava", "setup", "--help").out
        assert "setup" in call("lava", "--help").out
