"""psu-deploy centre: a machine in, a machine with its thresholds moved out, and the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from tests.cli.conftest import small_machine


def test_a_machine_is_centred(cli, saved, data):
    result = cli("centre", saved, data, "--out", "centred.psm")
    assert result.code == 0, result
    x, machine = np.load(data), small_machine()
    centred, report = psu.centre_thresholds(machine, x)
    assert str(report) in result.out
    assert psu.StateMachine.load("centred.psm").content_hash == centred.content_hash != machine.content_hash
    assert "next: psu-deploy export centred.psm --to onnx --out out" in result.err


@pytest.mark.parametrize("out", ["net.psm", "x.npy", "centred.onnx"])
def test_nothing_is_overwritten(cli, saved, data, out):
    before = Path(saved).read_bytes()
    result = cli("centre", saved, data, "--out", out)
    result.failed_with("a machine is written as .psm" if out != "net.psm" else "--out net.psm would overwrite")
    assert Path(saved).read_bytes() == before
