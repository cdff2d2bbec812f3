"""The tables of the site say what really comes of an export."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops

HOOKS = Path(__file__).parents[1] / "docs" / "hooks"

pytestmark = pytest.mark.full

COLUMNS = {"ONNX": "onnx", "C": "c", "NIR": "nir", "Lava, C int8": "lava"}


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(HOOKS))
    yield importlib.import_module("tables")
    sys.modules.pop("tables")


def cells(row):
    return [cell.strip() for cell in row.strip("| ").split(" | ")]


def test_neurons(tables, tmp_path):
    """Two of the rows; whatever is called exact is exported as faithful, and is the same spike for spike."""
    head, _, *rows = tables.neurons()
    assert cells(head)[1:] == list(COLUMNS)
    said = {cells(row)[0].partition(":")[0]: cells(row)[1:] for row in rows}
    assert said.keys() == tables.FORMS.keys()
    x = np.random.default_rng(0).normal(0.5, 2.0, (tables.T, 2, 3)).astype(np.float32)
    for name in ("PSU", "the same, staircase and exponentials"):
        machine = tables.machine_of(tables.FORMS[name])
        for column, cell in zip(COLUMNS, said[name], strict=True):
            assert outcome(machine, COLUMNS[column], tmp_path, x) in cell, (name, column)


def outcome(machine, target, folder, x):
    """The word of the table, found by exporting."""
    suffix = {"onnx": "onnx", "c": "c", "nir": "nir", "lava": "net"}[target]
    options = {"calibration": x} if target == "lava" else {}
    try:
        artifact = psu.export(machine, folder / f"net.{suffix}", target=target, **options)
    except psu.UnsupportedModelError as refusal:
        return f"refused</span>: {refusal.problems[0].reason}"
    runner = psu.load(artifact, simulator="integer") if target == "lava" else psu.load(artifact)
    assert psu.verify(machine, runner, x, allow_silent=True).ok
    return {"faithful": ">exact<", "approximate": ">rounded<"}[artifact.fidelity]


def test_layers_of_onnx_and_c_are_complete(tables):
    """Neither refuses anything; tests/test_zoo.py exports all of it."""
    kinds = {kind.__name__ for kind in tables._kinds() if not issubclass(kind, ops.Neuron)}
    rows = {cells(row)[0].strip("`"): cells(row)[1:3] for row in list(tables.layers())[2:]}
    assert rows.keys() == kinds
    assert {cell for row in rows.values() for cell in row} == {'<span class="yes">exact</span>'}


def test_every_simulator_has_a_column(tables):
    head, _, *rows = tables.simulators()
    assert cells(head) == ["neuron", "portable", "norse", "snntorch", "spikingjelly", "sinabs", "rockpool"]
    assert {cells(row)[0] for row in rows} >= {"PSU, staircase", "SlidingPSN", "LIF, hard reset"}
