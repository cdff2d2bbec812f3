"""No file takes more than its budget: 1 GiB (or 20 times its size) and 20 seconds; then one sentence says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import psu_deploy as psu
from psu_deploy.files import limits
from tests.hostile import measure
from tests.hostile.bombs import BOMBS

MEMORY, SECONDS = 1 << 30, 20.0

SMALL = 16 << 20
"""Bytes of the largest bomb."""


def _fixtures(test):
    return getattr(test, "fixturenames", ())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, request):
    """Every bomb that is asked for, read where it cannot hurt."""
    folder, arguments = tmp_path_factory.mktemp("bombs"), []
    asked = {test.callspec.params["name"] for test in request.session.items if "outcomes" in _fixtures(test)}
    for name in sorted(asked):
        kind = name.partition("_")[0]
        path = folder / f"{name}.{kind}"
        BOMBS[name](path)
        assert path.stat().st_size <= SMALL or kind in ("pth", "json")
        arguments += [kind, str(path)]
    command = [sys.executable, measure.__file__, *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(psu.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert not done.returncode, done.stderr
    return {Path(found["path"]).stem: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.full
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_sentence(outcomes, name):
    found = outcomes[name]
    assert found["said"].startswith("ArtifactError: "), found
    assert f"{name}." in found["said"]
    assert found["memory"] < MEMORY, found
    assert found["seconds"] < SECONDS, found


class TestLimits:
    def test_a_file_may_take_twenty_times_its_size(self):
        assert limits.memory_for(0) == 1 << 30
        assert limits.memory_for(1 << 30) == 20 << 30

    def test_both_can_be_raised_by_name(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PSU_DEPLOY_MAX_MEMORY", "1000")
        monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", "2.5")
        assert (limits.memory_for(10**6), limits.seconds()) == (1000, 2.5)
        with pytest.raises(psu.ArtifactError, match=r"f: state would take 1001 bytes .* raise PSU_DEPLOY_MAX_MEMORY"):
            limits.check_memory(1001, 10, "f: state")
        limits.check_memory(1000, 10, "f: state")

    @pytest.mark.parametrize("value", ["", "-1", "0", "1e9", "many", "9" * 30, "\u0661"])
    def test_a_limit_that_is_none(self, monkeypatch, value):
        monkeypatch.setenv("PSU_DEPLOY_MAX_MEMORY", value)
        with pytest.raises(psu.InputError, match="PSU_DEPLOY_MAX_MEMORY must be a whole number of bytes"):
            limits.memory_for(0)

    @pytest.mark.parametrize("value", ["", "-1", "0", "nan", "inf", "soon"])
    def test_a_time_that_is_none(self, monkeypatch, value):
        monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", value)
        with pytest.raises(psu.InputError, match="PSU_DEPLOY_MAX_SECONDS must be a number of seconds"):
            limits.seconds()

    @pytest.mark.parametrize(
        ("count", "said"),
        [(5, "5 bytes"), (1 << 10, "1.0 KiB"), (3 << 29, "1.5 GiB"), (1 << 14_000, "more than 2^60 bytes")],
        ids=["bytes", "KiB", "GiB", "more"],
    )
    def test_spelling(self, count, said):
        assert limits.spell(count) == said
