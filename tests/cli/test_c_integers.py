"""`psu-deploy export --to c --numerics int8`."""

from __future__ import annotations

import json
import subprocess
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
    assert f"next: psu-deploy run out/model.c --input {data} --output y.npy" in result.err
    result = cli("run", "out/model.c", "--input", data, "--output", "y.npy", "--flags", "-O1 -g0")
    assert "next: psu-deploy inspect out/model.c" in result.err
    result = cli("inspect", "out/model.c")
    assert "Dense, PSU" in result.out
    assert "next: psu-deploy run out/model.c --input x.npy --output y.npy" in result.err


def test_float_has_no_report(cli, saved):
    result = cli("export", saved, "--to", "c", "--out", "out")
    assert result.code == 0, result
    assert "faithful" in result.out
    names = ("model.c", "model.h", "model_weights.c", "model.md")
    size = sum(Path("out", name).stat().st_size for name in names)
    assert f"{size:,} bytes in {', '.join(names)}" in result.out
    assert "fixed point" not in result.out


def test_data_without_the_numerics(cli, saved, data):
    result = cli("export", saved, "--to", "c", "--calibrate", data, "--out", "out")
    result.failed_with("--calibration/--calibrate is for whole numbers; add --numerics int8")


def test_a_run_folder_brings_its_own_data(cli, trained):
    result = cli("export", trained, "--to", "c", "--numerics", "int8", "--out", "out")
    assert result.code == 0, result
    assert "and 360 samples" in result.out
    assert cli("export", trained, "--to", "c", "--numerics", "float32", "--out", "float").code == 0


def test_how_to_go_on_with_the_same_options(cli, saved):
    cli("export", saved, "--to", "c", "--out", "out")
    result = cli("verify", saved, "out/model.c", "--flags", "-O1 -g0")
    assert "next: psu-deploy run out/model.c --input x.npy --output y.npy --flags '-O1 -g0'" in result.err


@pytest.mark.parametrize("numerics", ["float32", "int8"])
def test_what_it_takes_on_a_chip(cli, saved, data, tmp_path, numerics):
    """As a compiler sees it."""
    options = ("--numerics", "int8", "--calibrate", data) if numerics == "int8" else ()
    cli("export", saved, "--to", "c", *options, "--out", "out")
    program = """#include "model.h"
#include <stdio.h>
int main(void) { printf("%zu %zu", sizeof(model_state), sizeof(model_work)); }"""
    Path("out/main.c").write_text(program)
    subprocess.run(["cc", "out/main.c", "-o", "main"], check=True)
    state, work = map(int, subprocess.run(["./main"], check=True, capture_output=True, text=True).stdout.split())
    subprocess.run(["cc", "-c", "out/model_weights.c"], check=True)
    lines = subprocess.run(["size", "-A", "model_weights.o"], check=True, capture_output=True, text=True).stdout
    flash = sum(int(line.split()[1]) for line in lines.splitlines() if line.startswith(".rodata"))
    found = json.loads(cli("inspect", "out/model.c", "--json").out)["memory"]
    assert 0 <= state - work - found["state per sample"] < 8, "room between members"
    assert 0 <= work - found["room to work in per sample"] < 8
    assert 0 <= flash - found["numbers (flash), beside the code"] < 64
    assert f"{found['state per sample']:,} bytes" in cli("inspect", "out/model.c").out
