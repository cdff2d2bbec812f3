from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import psu_deploy as psu
from psu_deploy.machine import StateMachine
from tests.exporters.nir.importing.nir_graphs import optional
from tests.exporters.nir.machines import MACHINES

nir = optional("nir")
optional("nirtorch")


def _module(name: str) -> Any:
    __import__(f"psu_deploy.exporters.nir.{name}")
    return sys.modules[f"psu_deploy.exporters.nir.{name}"]


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every file first, in case it is damaged. Ours are not, and there are hundreds of them."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)


@pytest.fixture(scope="session")
def file_of(tmp_path_factory) -> Callable[[str, str], Path]:
    """Name in MACHINES, dialect -> its file, written without the exporter's own check: the tests are the check."""
    folder = tmp_path_factory.mktemp("machines")
    numbers = {name: index for index, name in enumerate(MACHINES)}

    @cache
    def export(name: str, dialect: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_module("export"), "self_check", lambda *_: None)
            patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)
            path = folder / f"{numbers[name]}-{dialect}.nir"
            return psu.export(MACHINES[name], path, target="nir", simulator=dialect).path

    return export


@pytest.fixture(scope="session")
def graph_of() -> Callable[[Path], Any]:
    """A file as NIR itself reads it, with all its checks."""
    return cache(lambda path: nir.read(str(path), type_check=True))


@pytest.fixture(scope="session")
def run_in() -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Run a file in an engine, which must be installed: the graph's output at every step, and the neuron layers'."""
    read = cache(_module("runner").read_graph)

    def run(path: Path, engine: str, x: Any) -> tuple[Any, dict[str, Any]]:
        _needs(engine)
        graph = read(path)
        neurons = json.loads(graph.metadata["psu_deploy"])["neurons"]
        simulator = _module("engines").ENGINES[engine](graph, [neuron["node"] for neuron in neurons.values()])
        simulator.start(x.shape[1])
        y, seen = simulator.advance(torch.from_numpy(x))
        spikes = {name: seen[n["node"]].numpy().reshape(*x.shape[:2], *n["shape"]) for name, n in neurons.items()}
        return y.numpy(), spikes

    return run


@pytest.fixture
def opened() -> Callable[[Path, str], Any]:
    """Open a file in an engine, which must be installed."""

    def open_in(path: Path, engine: str) -> Any:
        _needs(engine)
        return psu.load(path, simulator=engine)

    return open_in


def _needs(engine: str) -> None:
    if engine != "canonical":
        optional(engine)


@pytest.fixture
def exported(tmp_path) -> Callable[..., Any]:
    """Export a machine, checks and all, and open the file."""

    def run(machine: StateMachine, simulator: str | None = None, **options: Any) -> Any:
        artifact = psu.export(machine, tmp_path / "net.nir", target="nir", simulator=simulator, **options)
        return psu.load(artifact)

    return run
