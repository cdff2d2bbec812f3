from __future__ import annotations

from functools import cache

import pytest

import psu_deploy as psu
from tests.runtime.runners import BOUNDED, KINDS, NETWORK, OPTIONS, opened


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every file first, in case it is damaged. Ours are not."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)


@pytest.fixture(scope="session")
def path_of(tmp_path_factory):
    @cache
    def path(kind, bounded):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
            return opened(BOUNDED if bounded else NETWORK, kind, tmp_path_factory.mktemp("net")).artifact.path

    return path


@pytest.fixture(params=KINDS)
def runner(request, path_of):
    """NETWORK in every engine."""
    return psu.load(path_of(request.param, False), **OPTIONS[request.param])


@pytest.fixture(params=["onnx", "lava"])
def bounded(request, path_of):
    """BOUNDED in every engine that can hold it."""
    return psu.load(path_of(request.param, True), **OPTIONS[request.param])


@pytest.fixture
def onnx(path_of):
    return psu.load(path_of("onnx", False), threads=1)


@pytest.fixture
def exported(tmp_path):
    """Export a machine to ONNX and open the file."""
    return lambda machine: opened(machine, "onnx", tmp_path)
