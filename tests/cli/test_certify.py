"""psu-deploy certify, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import psu_deploy as psu
from psu_deploy.cli import app
from tests.verify.test_portable import on_the_edge, ones


@pytest.fixture
def called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_the_edge().save("net.psm")
    np.save("x.npy", ones(2, 3))
    np.save("clear.npy", 2 * ones(2, 3))
    return lambda *words: CliRunner().invoke(app, ["certify", *words])


def test_all_is_certified(called):
    done = called("net.psm", "clear.npy", "--out", "certificate.json")
    assert done.exit_code == 0
    assert "CERTIFIED: 18 of 18 decisions" in done.output
    assert psu.PortableCertificate.load("certificate.json").ok


@pytest.mark.parametrize(("at_least", "code"), [("1.0", 1), ("0.6", 0)])
def test_a_share_is_asked_for(called, at_least, code):
    done = called("net.psm", "x.npy", "--out", "certificate.json", "--at-least", at_least)
    assert done.exit_code == code
    assert "66.66 % CERTIFIED" in done.output
    assert json.loads(Path("certificate.json").read_text())["certified"] == 12


def test_random_spikes_without_data(called):
    assert "decisions" in called("net.psm", "--steps", "3", "--batch", "2").output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "x.npy"], "would overwrite x.npy"),
        (["--out", "."], "it is a folder"),
        (["--cases", "0"], "--cases must be at least 1"),
        (["--at-least", "2"], "--at-least is a share"),
    ],
)
def test_what_it_refuses(called, words, says):
    done = called("net.psm", "x.npy", *words)
    assert says in str(done.exception)
