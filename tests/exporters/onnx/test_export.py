"""An export is whole or not at all: it is checked before it is moved into place, and leaves nothing else behind."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from torch import nn

import psu_deploy as psu
from psu_deploy.exporters import self_check
from psu_deploy.exporters.onnx import lower
from psu_deploy.exporters.onnx.operators import OPERATORS
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.zoo import MACHINES, NEURONS, chain, inputs, normal

MACHINE = chain((3,), NEURONS["rpsu"], ops.Linear(normal(2, 3)))
emitting = importlib.import_module("psu_deploy.exporters.onnx.export")


def test_missing_folders_are_made(tmp_path):
    artifact = psu.export(MACHINE, tmp_path / "a" / "b" / "net.onnx")
    assert artifact.path.is_file()
    assert [path.name for path in artifact.path.parent.iterdir()] == ["net.onnx"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    path = psu.export(MACHINE, tmp_path / "net.onnx").path
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("old")
    assert psu.load(psu.export(MACHINE, path)).artifact.machine_hash == MACHINE.content_hash


def test_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    psu.load(psu.export(MACHINE, "net.onnx"))


def test_exporting_twice_gives_the_same_bytes(tmp_path):
    first, second = (psu.export(MACHINE, tmp_path / name).path.read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second


@pytest.mark.full
def test_a_module_is_captured_first(tmp_path):
    model = psu.SpikingSequential(nn.Linear(3, 4), psu.PSU())
    artifact = psu.export(model, tmp_path / "net.onnx", input_shape=(3,))
    assert artifact.machine_hash == psu.to_state_machine(model, (3,)).content_hash
    with pytest.raises(psu.InputError, match="a module needs input_shape"):
        psu.export(model, tmp_path / "net.onnx")


def test_only_a_model_can_be_exported(tmp_path):
    with pytest.raises(psu.InputError, match="model must be a torch module or a StateMachine, got dict"):
        psu.export({}, tmp_path / "net.onnx")


def test_an_unknown_target(tmp_path):
    with pytest.raises(psu.InputError, match="unknown target 'tflite'; choose one of c, lava, nir, onnx"):
        psu.export(MACHINE, tmp_path / "net.onnx", target="tflite")


@pytest.mark.parametrize("name", ["net", "net.pt", "net.onnx.bak"])
def test_another_suffix(tmp_path, name):
    with pytest.raises(psu.InputError, match=r"an ONNX file must end in \.onnx, got .*" + name):
        psu.export(MACHINE, tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_more_than_a_protobuf_can_hold(tmp_path, monkeypatch):
    """Beyond 2 GiB protobuf cannot serialise the model; EncodeError is what it says then."""

    def too_large(*args, **options):
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", too_large)
    with pytest.raises(psu.ArtifactError, match="too large"):
        psu.export(MACHINE, tmp_path / "net.onnx")
    assert not any(tmp_path.iterdir())


class TestCannotBeWritten:
    def test_the_parent_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(psu.ArtifactError, match=r"cannot write .*net\.onnx"):
            psu.export(MACHINE, tmp_path / "file" / "net.onnx")
        assert (tmp_path / "file").read_text() == "mine"

    def test_the_target_is_a_folder(self, tmp_path):
        (tmp_path / "net.onnx").mkdir()
        with pytest.raises(psu.ArtifactError, match="it is a folder; name a file in it"):
            psu.export(MACHINE, tmp_path / "net.onnx")
        assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
        assert not any((tmp_path / "net.onnx").iterdir())

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
    def test_the_folder_is_read_only(self, tmp_path):
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        with pytest.raises(psu.ArtifactError, match=r"cannot write .*Permission denied"):
            psu.export(MACHINE, folder / "net.onnx")
        assert not any(folder.iterdir())


def without_bias(monkeypatch):
    right = lower._RULES[ops.Linear]
    monkeypatch.setitem(lower._RULES, ops.Linear, lambda layer, *rest: right(ops.Linear(layer.weight), *rest))
    return chain((3,), ops.Linear(np.zeros((4, 3)), np.ones(4)), NEURONS["identity"])


def upside_down(monkeypatch):
    right = lower._RULES[ops.SpikingNeuron]

    def wrong(layer, *rest):
        return right(replace(layer, threshold=-layer.threshold), *rest)

    monkeypatch.setitem(lower._RULES, ops.SpikingNeuron, wrong)
    return MACHINE


def wrong_weights(monkeypatch):
    right = lower._RULES[ops.Linear]
    monkeypatch.setitem(lower._RULES, ops.Linear, lambda layer, *rest: right(ops.Linear(layer.weight * 1.001), *rest))
    return MACHINE


def frozen_state(monkeypatch):
    """The buffer of a delay is read but not moved on: right for one step, wrong ever after."""
    right = lower._RULES[ops.Delay]

    def frozen(layer, inputs, scope):
        value = right(layer, inputs, scope)
        scope.set_state("buffer", scope.builder.op("Identity", scope.state("buffer"), name="frozen"))
        return value

    monkeypatch.setitem(lower._RULES, ops.Delay, frozen)
    return MACHINES["delay 3"]


def wrong_decay(monkeypatch):
    right = OPERATORS[o.Leak]
    monkeypatch.setitem(OPERATORS, o.Leak, lambda leak, *rest: right(o.Leak(leak.gain, leak.decay * 0.9), *rest))
    return MACHINE


def wrong_next_state(monkeypatch):
    """The reset that is kept for the next step is ten times too large."""
    right = OPERATORS[o.StrictLeak]

    def wrong(operator, role, x, scope):
        value = right(operator, role, x, scope)
        scope.set_state(
            role, scope.builder.op("Mul", scope.following[role], scope.builder.floats(10.0, "ten"), name="z")
        )
        return value

    monkeypatch.setitem(OPERATORS, o.StrictLeak, wrong)
    return chain((1,), NEURONS["psu"])


DAMAGE = {
    "without bias": without_bias,
    "upside down": upside_down,
    "weights": wrong_weights,
    "frozen state": frozen_state,
    "next state": wrong_next_state,
}


class TestNothingIsLeftBehind:
    """Whatever goes wrong on the way: no file, no temporary file, and an old file is as it was."""

    @pytest.fixture(params=["no file before", "a file before"])
    def folder(self, request, tmp_path):
        if request.param == "a file before":
            (tmp_path / "net.onnx").write_text("old")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        yield tmp_path
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("stage", ["check_export", "certify", "load"])
    @pytest.mark.parametrize("trouble", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_interrupted(self, folder, monkeypatch, stage, trouble):
        def interrupt(*args):
            assert len([path for path in folder.iterdir() if path.name != "net.onnx"]) == 1, "a temporary file"
            raise trouble

        monkeypatch.setattr(self_check if stage == "certify" else emitting, stage, interrupt)
        with pytest.raises(trouble):
            psu.export(MACHINE, folder / "net.onnx")

    def test_the_disk_is_full(self, folder, monkeypatch):
        whole = Path.write_bytes

        def full(path, content):
            whole(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(psu.ArtifactError, match="No space left on device"):
            psu.export(MACHINE, folder / "net.onnx")

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_wrong_graph_is_caught(self, folder, monkeypatch, damage):
        machine = DAMAGE[damage](monkeypatch)
        with pytest.raises(psu.InternalError, match="the exported graph does not compute what the machine computes"):
            psu.export(machine, folder / "net.onnx")


def test_a_leak_that_is_a_tenth_too_fast_is_caught(tmp_path, monkeypatch):
    machine = wrong_decay(monkeypatch)
    with pytest.raises(psu.InternalError):
        psu.export(machine, tmp_path / "net.onnx")


def large(inputs, hidden, outputs):
    return psu.SpikingSequential(
        nn.Linear(inputs, hidden), psu.RPSU(20), nn.Linear(hidden, hidden), psu.PSU(), nn.Linear(hidden, outputs)
    )


@pytest.mark.full
def test_a_large_network(tmp_path):
    machine = psu.to_state_machine(large(700, 1024, 20), (700,))
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"))
    x = inputs(machine, 3, 2)
    assert psu.verify(machine, tmp_path / "net.onnx", x).ok
    assert runner.run(x).shape == (3, 2, 20)


def any_content(folder):
    with suppress(FileNotFoundError):  # renamed under our eyes
        return any(path.stat().st_size for path in folder.iterdir())
    return True


def heed_ctrl_c():
    """What a shell starts in the background ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.full
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_in_the_middle_of_an_export(tmp_path):
    """A real signal to the real command, as soon as the temporary file has something in it."""
    psu.to_state_machine(large(16, 2048, 16), (16,)).save(tmp_path / "net.psm")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "psu_deploy", "export", str(tmp_path / "net.psm"), "--out", str(out)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heed_ctrl_c, **streams) as process:
        while not any_content(out) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, (stdout, stderr)
    assert "Traceback" not in stderr
    assert not any(out.iterdir())


@pytest.mark.parametrize(
    "layers",
    [
        (ops.Readout("sum"), ops.Power(0.5)),  # no root of the sum of a random state
        (ops.Power(-1.0),),  # no reciprocal of silence
        (ops.Readout("sum"), ops.Elementary("log")),  # neither
    ],
)
def test_the_check_looks_for_a_run_that_has_values(layers, tmp_path):
    machine, x = chain((3,), *layers), np.random.default_rng(0).uniform(0.5, 2.0, (4, 2, 3)).astype(np.float32)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    assert psu.verify(machine, runner, x, allow_silent=True).ok
