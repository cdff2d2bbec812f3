"""One export, as it was written, and a copy of its files to break."""

from __future__ import annotations

import pytest

import psu_deploy as psu
from tests.exporters.c.integers.made import machine, x


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    return psu.export(machine(), folder / "net.c", target="c", numerics="int8", calibration=x()).path


@pytest.fixture
def path(original, tmp_path):
    """Files of one's own, to break."""
    for file in original.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "net.c"


@pytest.fixture
def runner(original):
    return psu.load(original)
