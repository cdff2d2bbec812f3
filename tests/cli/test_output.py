"""What is written, and where to: nothing that is read is written over, and output that nobody gets is told."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy import api
from psu_deploy.cli import app, console, main
from tests.cli.conftest import small_machine

VERBS = sorted(command.name for command in app.registered_commands)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def never(monkeypatch):
    """Nothing may run: what is wrong is said first."""

    def fail(*arguments, **options):
        raise AssertionError("it ran")

    for name in ("export", "load", "verify"):
        monkeypatch.setattr(api, name, fail)
    monkeypatch.setattr(psu.StateMachine, "run", fail)


@pytest.fixture
def files(cli, saved, exported, data, tmp_path, never):
    """net.psm, net.onnx and x.npy, and other names for them."""
    (tmp_path / "folder").mkdir()
    for name in ("net.psm", "net.onnx", "x.npy"):
        (tmp_path / f"link{Path(name).suffix}").symlink_to(name)
        os.link(tmp_path / name, tmp_path / f"hard{Path(name).suffix}")
    yield
    assert "link.psm" in contents(tmp_path)


class TestNothingThatIsReadIsWrittenOver:
    @pytest.mark.full
    @pytest.mark.parametrize("name", ["net.psm", "net.onnx", "x.npy", "folder/../net.onnx", "link.onnx", "hard.psm"])
    def test_report(self, cli, files, tmp_path, name):
        before = contents(tmp_path)
        words = ("verify", "net.psm", "net.onnx", "--data", "x.npy", "--report", name)
        cli(*words).failed_with(f"--report {name} would overwrite")
        assert contents(tmp_path) == before

    @pytest.mark.full
    @pytest.mark.parametrize("name", ["x.npy", "./folder/../x.npy", "link.npy", "hard.npy"])
    @pytest.mark.parametrize("source", ["net.psm", "net.onnx"])
    def test_output_of_a_run(self, cli, files, tmp_path, name, source):
        before = contents(tmp_path)
        said = f"--output {Path(name)} would overwrite x.npy, which is read here; name another file"
        cli("run", source, "--input", "x.npy", "--output", name).failed_with(said)
        assert contents(tmp_path) == before

    @pytest.mark.full
    def test_through_a_link_in_the_source(self, cli, files):
        words = ("verify", "net.psm", "link.onnx", "--report", "net.onnx")
        cli(*words).failed_with("--report net.onnx would overwrite link.onnx")

    @pytest.mark.full
    def test_export(self, cli, files, tmp_path):
        (tmp_path / "to.onnx").symlink_to("net.psm")
        cli("export", "net.psm", "--out", "to.onnx").failed_with("--out to.onnx would overwrite net.psm")
        assert psu.StateMachine.load("net.psm").content_hash == small_machine().content_hash

    @pytest.mark.full
    def test_import(self, cli, files):
        cli("import", "net.psm", "--out", "net.psm").failed_with("--out net.psm would overwrite net.psm")

    @pytest.mark.full
    def test_a_run_folder(self, cli, files, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "weights.safetensors").write_text("all that was learned")
        words = ("verify", "run", "net.onnx", "--report", "run/weights.safetensors")
        cli(*words).failed_with("--report run/weights.safetensors would overwrite run/weights.safetensors")


class TestWhereItGoes:
    @pytest.mark.parametrize("name", [".", "folder"])
    def test_a_report_in_the_place_of_a_folder(self, cli, files, name):
        words = ("verify", "net.psm", "net.onnx", "--report", name)
        cli(*words).failed_with(f"cannot write {name}: it is a folder; name a file in it")

    @pytest.mark.full
    @pytest.mark.parametrize("name", ["m.txt", "m.onnxx", "m.psm", "deep/m.onnx.bak"])
    def test_a_file_that_no_target_writes(self, cli, files, tmp_path, name):
        cli("export", "net.psm", "--out", name).failed_with(f"a file for --to onnx ends in .onnx, got {name}")
        assert not (tmp_path / name).exists()
        assert not (tmp_path / "deep").exists()

    def test_a_folder_with_a_dot_that_is_there(self, cli, saved, tmp_path):
        (tmp_path / "v1.2").mkdir()
        assert cli("export", saved, "--out", "v1.2").code == 0
        assert (tmp_path / "v1.2" / "model.onnx").is_file()

    @pytest.mark.full
    def test_a_report_for_another_program(self, cli, saved, exported, tmp_path):
        before = contents(tmp_path)
        result = cli("verify", saved, exported, "--report", "-")
        assert result.code == 0, result
        assert json.loads(result.out)["ok"] is True
        assert "EQUIVALENT" in result.err
        assert contents(tmp_path) == before

    @pytest.mark.full
    def test_a_page_for_people(self, cli, saved, exported, data):
        result = cli("verify", saved, exported, "--data", data, "--report", "out/report.html")
        assert result.code == 0, result
        page = Path("out/report.html").read_text()
        assert "<h1>Safe to deploy</h1>" in page
        assert f"psu-deploy verify {saved} {exported} --data {data} --report out/report.html" in page
        assert json.loads(cli("verify", saved, exported, "--report", "-").out)["ok"]

    @pytest.mark.full
    def test_a_page_about_what_must_not_be_deployed(self, cli, saved, exported):
        other = small_machine(seed=1).save("other.psm")
        result = cli("verify", other, exported, "--report", "REPORT.HTM")
        assert result.code == 1
        assert "<h1>Do not deploy</h1>" in Path("REPORT.HTM").read_text()

    def test_without_what_makes_pages_nothing_runs(self, cli, files, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        words = ("verify", "net.psm", "net.onnx", "--report", "report.html")
        cli(*words).failed_with("it comes with the 'report' extra: pip install \"psu-deploy[report]\"")

    def test_a_run_folder_does_not_run(self, cli, files):
        cli("run", "folder", "--input", "x.npy", "--output", "y.npy").failed_with(
            "folder is a folder; name its machine (folder/model.psm), or an exported file"
        )

    def test_a_machine_is_no_export(self, cli, files):
        said = "net.psm is a saved machine, not an export; first psu-deploy export net.psm --out out/"
        cli("verify", "net.psm", "net.psm").failed_with(said)


class TestOptionsEverywhere:
    @pytest.mark.parametrize("words", [[], ["lava"], ["lava", "setup"], *([verb] for verb in VERBS)])
    def test_version_and_short_help(self, cli, words):
        result = cli(*words, "--version")
        assert (result.code, result.out, result.err) == (0, f"psu-deploy {psu.__version__}\n", "")
        assert cli(*words, "-h") == cli(*words, "--help")

    @pytest.mark.full
    @pytest.mark.parametrize("threads", [0, -3, 2000])
    def test_threads_that_are_none(self, cli, files, threads):
        words = ("run", "net.onnx", "--input", "x.npy", "--output", "y.npy", "--threads", threads)
        cli(*words).failed_with(f"--threads must be a whole number in 1..1024, got {threads}")

    @pytest.mark.full
    def test_options_of_engines_for_a_machine(self, cli, files):
        words = ("run", "net.psm", "--input", "x.npy", "--output", "y.npy", "--threads", 1)
        cli(*words).failed_with("--threads is for exported files; net.psm is a saved machine")

    @pytest.mark.full
    def test_calibration_of_nothing(self, cli, files):
        words = ("export", "net.psm", "--to", "nir", "--calibrate", "x.npy", "--out", "net.nir")
        cli(*words).failed_with(
            "--calibration/--calibrate measures an approximation; add --allow-approximation if you want one"
        )


class Full(io.StringIO):
    """A disk that is full."""

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)

    def write(self, text):
        raise OSError(28, "No space left on device")


class TestOutputThatIsLost:
    @pytest.mark.full
    @pytest.mark.parametrize("words", [["inspect", "net.psm"], ["verify", "net.psm", "net.onnx", "--report", "-"]])
    def test_a_full_disk(self, saved, exported, words, monkeypatch, tmp_path, capfd):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["psu-deploy", *words])
        with redirect_stdout(Full()), pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert capfd.readouterr().err.splitlines()[-1].startswith("error: the output was not written: No space left on")

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("verb", "where", "said"),
        [
            ("--help", ">/dev/full", "error: the output was not written: No space left on device\n"),
            ("--version", ">&-", "error: standard output is closed; send it to a file, or to /dev/null\n"),
        ],
    )
    def test_in_the_shell(self, where, said, verb):
        command = f'exec "$0" -m psu_deploy {verb} {where}'
        done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


AT_TORCH = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            {}
sys.meta_path.insert(0, Finder())
"""
"""What to do when torch is about to be imported, in front of everything else that a Python runs."""

COMMAND = "import sys; sys.argv[:] = ['/usr/bin/psu-deploy', 'doctor']; from psu_deploy.cli import main; main()"


def while_it_imports(folder, action, *command):
    (folder / "sitecustomize.py").write_text(AT_TORCH.format(action))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which who runs the tests may have switched off
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=100, preexec_fn=heeding
    )


@pytest.mark.parametrize("command", [("-c", COMMAND), ("-m", "psu_deploy", "doctor")])
def test_ctrl_c_while_it_imports(tmp_path, command):
    done = while_it_imports(tmp_path, "os.kill(os.getpid(), signal.SIGINT)", *command)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_is_as_usual_for_everybody_else(tmp_path):
    action = "os._exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert while_it_imports(tmp_path, action, "-c", "import psu_deploy").returncode == 1


class TestProgress:
    @pytest.mark.full
    def test_every_form_of_every_part_is_told(self, monkeypatch):
        monkeypatch.setattr("psu_deploy.forms._DECISIONS_AT_ONCE", 2 * 16 * 6)
        machine, told = small_machine(), []
        x = np.random.default_rng(0).normal(0.5, 2.0, (6, 5, 4)).astype(np.float32)
        report = psu.verify(machine, machine, x, progress=lambda done, total: told.append((done, total)))
        assert told == [(done, 6) for done in range(7)]  # three parts of two samples at most, in two forms
        assert report.to_dict() == psu.verify(machine, machine, x).to_dict()

    @pytest.mark.full
    def test_the_bar_knows_how_much_there_is(self, cli, saved, exported, monkeypatch):
        seen = []
        update = console.Progress.update

        def watch(bar, task, **how):
            seen.append((how.get("completed"), how.get("total")))
            update(bar, task, **how)

        monkeypatch.setattr(console.Progress, "update", watch)
        assert cli("verify", saved, exported).code == 0
        assert seen == [(0, 2), (1, 2), (2, 2)]
