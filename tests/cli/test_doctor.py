"""The doctor says what is there, what is missing and how to get it, and what is broken."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError

import pytest

from tests.cli.conftest import shell

DOCTOR = "psu_deploy.cli.doctor"


@pytest.fixture
def only_onnxruntime(monkeypatch, cli):
    """Importing all packages takes seconds."""
    module = sys.modules[DOCTOR]
    monkeypatch.setattr(module, "_packages", lambda: {"onnxruntime": ("onnxruntime", "onnx")})
    return module


@pytest.mark.full
def test_all_is_well(tmp_path):
    result = shell("doctor", cwd=tmp_path)
    assert result.code == 0
    for package in ("torch", "numpy", "safetensors", "onnx", "onnx-ir", "onnxruntime", "lightning", "scikit-learn"):
        assert package in result.out
    assert "broken" not in result.out


@pytest.mark.full
def test_one_is_well(cli, only_onnxruntime):
    result = cli("doctor")
    assert result.code == 0
    assert "ok" in result.out


@pytest.mark.full
def test_an_extra_that_is_missing_is_no_illness(cli, only_onnxruntime, monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(only_onnxruntime, "version", version)
    result = cli("doctor")
    assert result.code == 0
    assert 'missing: pip install "psu-deploy[onnx]"' in result.out


@pytest.mark.full
def test_a_package_that_cannot_be_imported_is(cli, only_onnxruntime, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = cli("doctor")
    assert result.code == 1
    assert "broken: ModuleNotFoundError" in result.out
