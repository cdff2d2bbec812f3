from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import psu_deploy as psu
from psu_deploy.exporters.onnx.runner import OnnxRunner
from psu_deploy.machine import StateMachine
from tests.zoo import MACHINES


@pytest.fixture(scope="session")
def file_of(tmp_path_factory) -> Callable[[str], Path]:
    """Name in MACHINES -> its file, exported at the first use. Read only."""
    folder = tmp_path_factory.mktemp("machines")
    files = {name: folder / f"{index}.onnx" for index, name in enumerate(MACHINES)}
    return cache(lambda name: psu.export(MACHINES[name], files[name]).path)


@pytest.fixture
def exported(tmp_path) -> Callable[[StateMachine], OnnxRunner]:
    """Export a machine and open the file."""
    return lambda machine: psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
