from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.cli import console, main
from tests.verify.networks import randomised

WIDE = 300
"""Columns, so that no line is folded."""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def failed_with(self, sentence: str) -> None:
        """Exit code 2, one sentence on stderr, no traceback."""
        assert self.code == 2, self
        (line,) = self.err.strip().splitlines()
        assert line.startswith("error: ")
        assert sentence in line
        assert "internal error" not in line
        assert not self.out


def call(*arguments) -> Result:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["psu-deploy", *map(str, arguments)])
        patch.setenv("COLUMNS", str(WIDE))
        for stream in (console.out, console.err):
            patch.setattr(stream, "_width", WIDE)
        with pytest.raises(SystemExit) as ended:
            main()
    return Result(ended.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture
def cli(monkeypatch, tmp_path) -> Callable[..., Result]:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return call


def shell(*arguments, cwd: Path, timeout: float = 120) -> Result:
    """Run the command as a person does."""
    command = [sys.executable, "-m", "psu_deploy", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": str(WIDE)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run folder, trained for one epoch."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = call("train", "digits", "--neuron", "rpsu", "--epochs", 1, "--out", folder)
    assert result.code == 0, result
    assert "test accuracy" in result.out
    assert f"next: psu-deploy export {folder} --to onnx --out {folder}" in result.err
    return folder


def small_machine(seed: int = 0) -> psu.StateMachine:
    torch.manual_seed(seed)
    model = psu.SpikingSequential(nn.Linear(4, 16), psu.RPSU(6), nn.Linear(16, 3))
    return psu.to_state_machine(randomised(model), (4,))


@pytest.fixture
def saved(tmp_path) -> Path:
    """A saved machine of six steps."""
    return small_machine().save(tmp_path / "net.psm")


@pytest.fixture
def exported(tmp_path) -> Path:
    """The same, exported."""
    return psu.export(small_machine(), tmp_path / "net.onnx").path


@pytest.fixture
def data(tmp_path) -> Path:
    """Input for it."""
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(0.5, 2.0, (6, 5, 4)).astype(np.float32))
    return path
