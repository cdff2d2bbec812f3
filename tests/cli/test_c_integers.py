"""`psu-deploy export --to c --numerics int8`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from psu_deploy.machine import ops
from tests import zoo
from tests.exporters.integers import oracle

pytestmark = pytest.mark.full


@pytest.fixture
def saved(tmp_path):
    first = ops.Linear(np.random.default_rng(0).normal(0, 1, (8, 4)), np.zeros(8))
    return oracle.machine((4,), first, zoo.NEURONS["psu"]).save(tmp_path / "net.psm")


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "x.npy", (np.random.default_rng(0).random((6, 2, 4)) < 0.5).astype(np.float32))
    return tmp_path / "x.npy"


def test_export_and_look_into_it(cli, saved, data):
    result = cli("export", saved, "--to", "c", "--numerics", "int8", "--calibrate", data, "--out", "out")
    assert result.code == 0, result
    assert Path("out/model.quantisation.json").is_file()
    for text in ("Loihi-2-style fixed point", "approximate", "dense 4 -> 8, PSU"):
        assert text in result.out
    assert f"next: psu-deploy verify {saved} out/model.c --data {data}" in result.err
    result = cli("verify", saved, "out/model.c", "--data", data)
    assert result.code == 0, result
    assert "EQUIVALENT: 96 spikes compared, 0 flips; rounding to integers changed" in result.out + result.err
    result = cli("inspect", "out/model.c")
    assert "Dense, PSU" in result.out


def test_float_has_no_report(cli, saved):
    result = cli("export", saved, "--to", "c", "--out", "out")
    assert result.code == 0, result
    assert "faithful" in result.out
    assert "fixed point" not in result.out


def test_data_without_the_numerics(cli, saved, data):
    result = cli("export", saved, "--to", "c", "--calibrate", data, "--out", "out")
    result.failed_with("--calibration is for whole numbers; add --numerics int8")


def test_a_run_folder_brings_its_own_data(cli, trained):
    result = cli("export", trained, "--to", "c", "--numerics", "int8", "--out", "out")
    assert result.code == 0, result
    assert "and 360 samples" in result.out
    assert cli("export", trained, "--to", "c", "--numerics", "float32", "--out", "float").code == 0
