"""A target that crashes or hangs takes its own case along, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import count

import pytest

from psu_deploy.fuzz.case import drawn_case
from psu_deploy.fuzz.child import Child
from psu_deploy.fuzz.journal import NAME
from psu_deploy.fuzz.run import Plan, fuzz
from psu_deploy.machine import ops
from tests.cli.conftest import call

CONVOLUTIONS = {ops.Conv1d, ops.Conv2d, ops.Conv3d}
TROUBLE = {*CONVOLUTIONS, ops.Readout, ops.LIFNeuron}
"""What the planted target refuses, crashes on, and hangs on."""


def asked(child, *kinds):
    """What comes of the first network of seed 0 that has one of these kinds, and no other trouble."""
    for number in count():
        drawn = {type(node.layer) for node in drawn_case(0, number, "planted").machine.nodes}
        if bool(drawn & set(kinds)) == bool(kinds) and not drawn & (TROUBLE - set(kinds)):
            return child.ask({"seed": 0, "number": number, "target": "planted"})
    return None


@pytest.mark.full
def test_a_refusal_a_crash_and_a_hang_are_those_of_their_case(planted, tmp_path):
    planted("refuse,crash,hang")
    with Child(tmp_path, 60.0) as child:
        assert asked(child).status == "ok"
        refused = asked(child, *CONVOLUTIONS)
        assert (refused.status, refused.kind[-20:]) == ("refused", "no convolutions here")
        crashed = asked(child, ops.Readout)
        assert (crashed.status, crashed.kind) == ("failed", "crashed: SIGSEGV")
        assert "_run" in crashed.reason  # where, as faulthandler says it
        assert asked(child).status == "ok"
        child._seconds = 1.0
        hung = asked(child, ops.LIFNeuron)
        assert (hung.status, hung.kind) == ("failed", "hangs")


@pytest.mark.nightly
def test_the_command_finds_keeps_and_repeats(planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planted("delay")
    found = call("fuzz", "--targets", "planted", "--cases", 1, "--json", "--out", "kept")
    assert found.code == 1
    data = json.loads(found.out)
    assert (data["ok"], data["targets"][0]["failed"]) == (False, 1)
    page = (tmp_path / "kept" / "case-0-0-planted.txt").read_text()
    assert "psu-deploy fuzz --repeat kept/case-0-0-planted.psm" in page
    again = call("fuzz", "--repeat", "kept/case-0-0-planted.psm")
    assert again.code == 1
    assert "the target gives" in again.out
    assert "step" in again.out
    planted("")
    assert call("fuzz", "--repeat", "kept/case-0-0-planted.psm").code == 0


@pytest.mark.nightly
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on_where_it_stopped(how, planted, tmp_path):
    planted("")
    words = ["-m", "psu_deploy", "fuzz", "--targets", "planted", "--minutes", "5", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env=dict(os.environ), text=True)
    until = time.monotonic() + 120
    while lines(tmp_path) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert ("planted" in said) == (how == signal.SIGINT)  # the table so far
    done = lines(tmp_path) - 1
    entries = list(fuzz(Plan(("planted",), tmp_path, 60.0, most=done + 2)))
    assert Counter(entry.number for entry in entries) == dict.fromkeys(range(done + 2), 1)


def lines(folder):
    path = folder / NAME
    return path.read_bytes().count(b"\n") if path.exists() else 0
