"""Bad usage and bad input: exit code 2, one sentence on stderr, no traceback, nothing written."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.cli import app
from tests.cli.conftest import shell, small_machine

VERBS = sorted(command.name for command in app.registered_commands)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(cli, verb):
    result = cli(verb, "--help")
    assert result.code == 0
    assert f"Example: psu-deploy {verb}" in result.out
    assert not result.err


def test_help_lists_every_verb(cli):
    result = cli("--help")
    assert result.code == 0
    assert all(verb in result.out for verb in VERBS)
    assert {"demo", "train", "export", "verify", "run", "inspect", "doctor"} <= set(VERBS)


def test_no_verb_shows_the_help(cli):
    assert "Commands" in cli().out


@pytest.mark.parametrize(
    "arguments",
    [["fly"], ["export"], ["export", "net.psm"], ["verify", "net.psm"], ["doctor", "--fast"], ["run", "a", "-x"]],
)
def test_bad_usage(cli, arguments):
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.startswith("Usage: ")
    assert "Traceback" not in result.err


@pytest.mark.full
def test_as_a_person_sees_it(tmp_path):
    shell("export", "nowhere.psm", "--out", "out", cwd=tmp_path).failed_with("nowhere.psm does not exist")
    assert not any(tmp_path.iterdir())


class TestExport:
    def test_a_source_that_is_nothing(self, cli, tmp_path):
        (tmp_path / "net.txt").write_text("hello")
        (tmp_path / "bad.psm").write_text("hello")
        (tmp_path / "empty").mkdir()
        cli("export", "nowhere.psm", "--out", "out").failed_with("nowhere.psm does not exist")
        cli("export", "net.txt", "--out", "out").failed_with("is neither a run folder nor a saved machine (.psm)")
        cli("export", "bad.psm", "--out", "out").failed_with("bad.psm is truncated or is not a psu-deploy machine")
        cli("export", "empty", "--out", "out").failed_with("is not the folder of a run")
        assert not (tmp_path / "out").exists()

    def test_an_unknown_target(self, cli, saved, tmp_path):
        cli("export", saved, "--to", "tflite", "--out", "out").failed_with(
            "unknown target 'tflite'; choose one of c, lava, nir, onnx"
        )
        assert not (tmp_path / "out").exists()

    def test_a_place_that_cannot_be_written(self, cli, saved, tmp_path):
        (tmp_path / "file").write_text("mine")
        cli("export", saved, "--out", "file/net.onnx").failed_with("cannot write file/net.onnx")
        assert (tmp_path / "file").read_text() == "mine"


class TestVerify:
    def test_an_artifact_that_is_nothing(self, cli, saved, tmp_path):
        (tmp_path / "bad.onnx").write_bytes(b"hello")
        (tmp_path / "net.txt").write_text("hello")
        cli("verify", saved, "nowhere.onnx").failed_with("cannot read nowhere.onnx: No such file or directory")
        cli("verify", saved, "bad.onnx").failed_with("bad.onnx is truncated or is not an ONNX file")
        cli("verify", saved, "net.txt").failed_with("no target writes .txt")

    @pytest.mark.full
    def test_more_steps_than_the_horizon(self, cli, saved, exported):
        cli("verify", saved, exported, "--steps", 7).failed_with(
            "x has 7 steps (axis 0) but the machine's horizon is 6"
        )

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--batch", 0),
            ("--batch", -1),
            ("--steps", -1),
            ("--seed", -1),
        ],
    )
    def test_random_input_that_cannot_be(self, cli, saved, exported, option, value):
        cli("verify", saved, exported, option, value).failed_with("")

    @pytest.mark.full
    def test_no_steps(self, cli, saved, exported):
        cli("verify", saved, exported, "--steps", 0).failed_with("")

    @pytest.mark.full
    def test_a_report_that_cannot_be_written(self, cli, saved, exported, tmp_path):
        result = cli("verify", saved, exported, "--report", tmp_path)
        assert result.code == 2
        assert "cannot write" in result.err

    @pytest.mark.full
    def test_data_of_another_shape(self, cli, saved, exported):
        np.save("x.npy", np.zeros((6, 1, 5), np.float32))
        cli("verify", saved, exported, "--data", "x.npy").failed_with("x must be time-first, (T, B, 4)")


class Evil:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return open, ("unpickled", "w")


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def header(shape):
    return npy(np.zeros((1,), np.float32)).replace(b"(1,), }", f"({shape},), }}".encode())


FLOATS = npy(np.zeros((6, 2, 4), np.float32))
NOT_AN_ARRAY = {
    "empty": (b"", "is truncated or is not a .npy file"),
    "text": (b"1 2 3\n", "is truncated or is not a .npy file"),
    "truncated header": (FLOATS[:20], "is truncated or is not a .npy file"),
    "truncated numbers": (FLOATS[:-4], "is truncated or is not a .npy file"),
    "pickle": (npy(np.array([Evil()]), allow_pickle=True), "is truncated or is not a .npy file of numbers"),
    "more than there is": (header(2**62), "is truncated or is not a .npy file"),
}
BREAKS_NUMPY = {"broken archive": npz()[:-30], "endless": header(10**30)}


class TestRun:
    @pytest.mark.full
    @pytest.mark.parametrize("name", NOT_AN_ARRAY)
    def test_what_is_no_array(self, cli, exported, tmp_path, name):
        content, message = NOT_AN_ARRAY[name]
        (tmp_path / "x.npy").write_bytes(content)
        cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with(message)
        assert not (tmp_path / "y.npy").exists()
        assert not (tmp_path / "unpickled").exists()

    @pytest.mark.parametrize("name", BREAKS_NUMPY)
    def test_what_breaks_numpy(self, cli, exported, tmp_path, name):
        (tmp_path / "x.npy").write_bytes(BREAKS_NUMPY[name])
        cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with("x.npy")

    def test_an_input_that_is_missing(self, cli, exported):
        cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with("cannot read x.npy: No such file")

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((6, 2, 4)), "x must be float32, got float64"),
            (np.zeros((6, 4), np.float32), "an axis is missing: x"),
            (np.zeros((7, 2, 4), np.float32), "x has 7 steps (axis 0) but the machine's horizon is 6"),
            (np.full((6, 2, 4), np.nan, np.float32), "x holds NaN or infinity, first at index (0, 0, 0)"),
            (np.zeros(()), "x must be float32, got float64"),
            (np.array(["a"]), "x must be float32, got <U1"),
        ],
    )
    def test_an_input_that_does_not_fit(self, cli, exported, tmp_path, array, message):
        np.save("x.npy", array)
        cli("run", exported, "--input", "x.npy", "--output", "y.npy").failed_with(message)
        assert not (tmp_path / "y.npy").exists()

    @pytest.mark.full
    @pytest.mark.parametrize("name", ["y.txt", "y", "y.npz"])
    def test_an_output_that_is_no_npy(self, cli, exported, data, name):
        cli("run", exported, "--input", data, "--output", name).failed_with(f"an array is written as .npy, got {name}")

    def test_an_output_that_cannot_be_written(self, cli, exported, data, tmp_path):
        (tmp_path / "y.npy").mkdir()
        cli("run", exported, "--input", data, "--output", "y.npy").failed_with("it is a folder; name a file in it")

    def test_an_artifact_that_is_missing(self, cli, data):
        for name in ("net.onnx", "net.psm", "net"):
            cli("run", name, "--input", data, "--output", "y.npy").failed_with(name)


class TestInspect:
    @pytest.mark.parametrize(
        "name", ["nowhere.onnx", "nowhere.psm", "nowhere", "text.onnx", "text.psm", "text.txt", "folder"]
    )
    def test_what_is_not_ours(self, cli, tmp_path, name):
        (tmp_path / "folder").mkdir()
        for suffix in ("onnx", "psm", "txt"):
            (tmp_path / f"text.{suffix}").write_text("hello")
        cli("inspect", name).failed_with(name)


class TestTrain:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["digits", "--neuron", "gru"], "neuron must be one of psu, ipsu"),
            (["mnist"], "task must be one of cifar10, cifar10-dvs"),
            (["shd"], "the data of the task shd has to be fetched: "),
            (["cifar-10"], "got 'cifar-10' (did you mean cifar10?); a task of your own"),
            (
                ["digits", "--set", "velocity=2"],
                "--set velocity: no field of a recipe, no option of digits or rpsu is called so; there are",
            ),
            (["digits", "--set", "learning-rate=2"], "is called so (did you mean learning_rate?); there are"),
            (["digits", "--set", "Treshold=2"], "is called so (did you mean threshold?); there are"),
            (["digits", "--set", "neuron_options.taus=2"], "(did you mean neuron_options.tau?); there are"),
            (["digits", "--set", "tau"], "--set takes NAME=VALUE, such as epochs=3, got 'tau'"),
            (["digits", "--set", "tau=0.5"], "tau is a number of steps and must be at least 1"),
            (["digits", "--task-file", "nowhere.py"], "--task-file nowhere.py is no Python file"),
            (["digits", "--epochs", "0"], "epochs must be a whole number of at least 1, got 0"),
            (["digits", "--seed", "-1"], "seed must be a whole number of at least 0, got -1"),
            (["digits", "--resume"], "there is nothing to resume in run: no recipe.json; train without --resume"),
        ],
    )
    def test_what_cannot_be_trained(self, cli, tmp_path, arguments, message):
        cli("train", *arguments, "--out", "run").failed_with(message)
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_is_somebody_elses(self, cli, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").touch()
        cli("train", "digits", "--out", "run").failed_with("is not empty and not the folder of a run")


@pytest.mark.parametrize(("neurons", "message"), [("", "name at least one neuron"), ("gru", "neuron must be one of")])
def test_demo_of_nothing(cli, neurons, message):
    result = cli("demo", "--neurons", neurons)
    assert result.code == 2
    assert message in result.err


class TestOurOwnFault:
    """A bug is called a bug, and shown in full only if asked for."""

    @pytest.fixture(autouse=True)
    def _a_bug(self, monkeypatch, request):
        error = psu.InternalError("a promise") if "promise" in request.node.name else ZeroDivisionError("oops")

        def fail(path):
            raise error

        monkeypatch.setattr(sys.modules["psu_deploy.cli.export"], "open_machine", fail)
        monkeypatch.delenv("PSU_DEPLOY_DEBUG", raising=False)

    def test_a_bug(self, cli):
        result = cli("export", "net.psm", "--out", "out")
        assert result.code == 2
        assert "error: internal error, please report it: ZeroDivisionError: oops" in result.err
        assert "Traceback" not in result.err

    def test_a_broken_promise(self, cli):
        assert "internal error, please report it: a promise" in cli("export", "net.psm", "--out", "out").err

    def test_a_bug_in_full(self, cli, monkeypatch):
        monkeypatch.setenv("PSU_DEPLOY_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            cli("export", "net.psm", "--out", "out")


def test_an_odd_name_is_printed_as_it_is(cli, tmp_path):
    """No markup: a path is a path."""
    name = "[bold] 100%.psm"
    small_machine().save(tmp_path / name)
    assert name in cli("export", name, "--out", "out").err
    cli("inspect", "[red].psm").failed_with("[red].psm does not exist")
