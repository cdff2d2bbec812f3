"""Where targets are found: ours on demand, those of other packages through the entry-point group."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import psu_deploy as psu
from psu_deploy import exporters
from psu_deploy.preparation import TARGETS
from tests.zoo import MACHINES

MACHINE = MACHINES["linear"]


def write(*call, **options):
    return call, options


def read(path):
    return path


@pytest.fixture
def plugin(monkeypatch):
    """A package that adds the target `echo`, which writes .echo files."""
    target = exporters.Target("echo", "Echo", ".echo", export=f"{__name__}:write", load=f"{__name__}:read")
    monkeypatch.setattr(EntryPoint, "load", lambda point: target)
    point = EntryPoint("echo", "echo.package:TARGET", exporters.GROUP)
    monkeypatch.setattr("psu_deploy.exporters.plugins.entry_points", lambda group: [point])


def test_another_package_adds_a_target(plugin):
    assert psu.export(MACHINE, "net.echo", target="echo", level=3) == ((MACHINE, Path("net.echo")), {"level": 3})
    assert psu.load("net.echo") == Path("net.echo")


def test_an_unknown_target_is_told_which_there_are(plugin):
    choice = r"unknown target 'tflite'; choose one of c, echo, lava, nir, onnx"
    with pytest.raises(psu.InputError, match=choice):
        psu.export(MACHINE, "net.tflite", target="tflite")


def test_a_saved_machine_is_not_an_export(tmp_path):
    with pytest.raises(psu.ArtifactError, match=r"is a saved machine, not an export; open it with"):
        psu.load(MACHINE.save(tmp_path / "net.psm"))


@pytest.mark.parametrize("name", ["net", "net.txt"])
def test_a_suffix_that_no_target_writes(name):
    with pytest.raises(psu.ArtifactError, match=r"no target writes .*; known suffixes: \.onnx, \.nir, \.net"):
        psu.load(name)


def accepted(place):
    return set(inspect.signature(exporters.named(place)).parameters)


@pytest.mark.parametrize("target", exporters.EXPORTERS.values(), ids=lambda target: target.name)
def test_a_record_names_what_there_is(target):
    assert set(target.options_of("export")) <= accepted(target.export)
    for verb in ("run", "verify"):
        assert set(target.options_of(verb)) <= accepted(target.load)
    assert set(target.without_engine) <= accepted(target.load)
    assert all(callable(exporters.named(check)) for check in target.checks)


def test_every_preparation_is_named_by_its_target():
    ours = exporters.EXPORTERS.values()
    assert {target.name: exporters.named(target.prepare) for target in ours if target.prepare} == TARGETS
