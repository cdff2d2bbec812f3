"""What a .net file says that rounding did is held against an export, as its numbers are."""

from __future__ import annotations

import json

import pytest

from psu_deploy.exporters.integers.pipeline import rounded
from psu_deploy.exporters.lava.emit import as_hdf5
from psu_deploy.exporters.lava.metadata import LIBRARIES
from psu_deploy.exporters.lava.structure import structure_of
from psu_deploy.exporters.lava.target import FORMAT
from tests.exporters.c.integers.made import machine, x


@pytest.mark.parametrize("forged", [False, True])
def test_a_report(forged):
    made = rounded(machine(), x(), "max", "Lava", LIBRARIES)
    said = json.loads(json.dumps(made.metadata | {"format": FORMAT}))
    content = as_hdf5(made.network, said)
    if forged:
        said["report"]["layers"][0]["weight_error"] = 0.0
    differences = structure_of(content, said, machine()).differences
    assert bool(differences) == forged
    assert all("its report, layers 0, weight_error is 0.0, exporting" in text for text in differences)
