"""Runs an exported NIR file in a simulator, one step or one sequence at a time."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.exporters.nir.contents import contents_of
from psu_deploy.exporters.nir.engines import ENGINES, READS
from psu_deploy.exporters.nir.files import read_graph
from psu_deploy.exporters.nir.metadata import header_of
from psu_deploy.exporters.nir.structure import structure_of
from psu_deploy.exporters.nir.target import TARGETS
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.inputs import check_static
from psu_deploy.runtime import Structure
from psu_deploy.runtime.contents import Contents
from psu_deploy.runtime.engine_runner import EngineRunner
from psu_deploy.runtime.readout import RunningReadout
from psu_deploy.verify import Arithmetic


class NirRunner(EngineRunner):
    """Steps an exported network in a simulator that reads NIR.

    Args:
        path: file written by `psu_deploy.export(..., target="nir")`.
        simulator: "norse", "snntorch", "spikingjelly", "sinabs", "rockpool", or "canonical", our own executor
            of the specification; None = the one the file was written for, our own for a portable or canonical file.

    Raises:
        ArtifactError: if the file is missing, damaged, not ours, or not written for that simulator.
        InputError: if there is no such simulator.
        MissingExtraError: if it is not installed.
    """

    called = "a NIR runner"
    stateless = "a NIR simulator keeps its state to itself; run the sequence from its start instead"

    def __init__(self, path: str | Path, *, simulator: str | None = None) -> None:
        self._open(Path(path), read_graph(Path(path)), simulator)

    @classmethod
    def of(cls, path: Path, graph: nir.NIRGraph, simulator: str) -> NirRunner:
        """A runner of a file that is read already."""
        runner = cls.__new__(cls)
        runner._open(path, graph, simulator)
        return runner

    def _open(self, path: Path, graph: nir.NIRGraph, simulator: str | None) -> None:
        self._graph = graph
        self._header = header_of(path, graph)
        super().__init__(path, self._header)
        self._name = _choose(path, self._header.flavour, simulator)
        ENGINES[self._name].installed()
        self._engine = ENGINES[self._name](graph, [neuron.node for neuron in self._header.neurons.values()])
        self._readout = RunningReadout(self._header.readout)
        self._image: Any = None

    @property
    def name(self) -> str:
        """What executes it, for reports."""
        return f"nir in {self._engine.package}"

    @property
    def arithmetic(self) -> Arithmetic:
        """How the simulator's rounding differs from the plain form."""
        return TARGETS["norse" if self._name == "portable" else self._name].arithmetic

    @property
    def resumes(self) -> bool:
        """Whether a sequence may be fed in parts; False = `run` alone."""
        return self._engine.resumes

    @property
    def contents(self) -> Contents:
        """The nodes of the graph."""
        return contents_of(self._graph)

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's nodes, edges and numbers stand against what exporting a machine writes. Nothing runs."""
        return structure_of(self._graph, self._header.facts, machine)

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        self._engine.start(batch)
        self._readout, self._image = RunningReadout(self._header.readout), None
        return 0

    def _advance(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self._watched(x)[0]

    def _watched(self, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
        """Some steps on: outputs, and what the watched nodes gave."""
        self._image = x[0].copy()
        y, seen = self._engine.advance(torch.from_numpy(np.require(x, requirements=["C", "W"])))
        self._check_spikes(seen)
        output = self._readout(y.numpy().reshape(*x.shape[:2], *self._header.output_shape))
        self._life.steps += len(x)
        self._check_state(len(x))
        self._check_output(output)
        return output, {name: values.numpy() for name, values in seen.items()}

    def _trace(self, x: np.ndarray[Any, Any], state: Mapping[str, Any] | None) -> Trace:
        """Simulators tell the spikes of every neuron layer, and no more than that."""
        other = NirRunner.of(self._path, self._graph, self._name)
        other.reset(x.shape[1])
        output, seen = other._watched(x)
        spikes = {
            layer: seen[neuron.node].reshape(*x.shape[:2], *neuron.shape)
            for layer, neuron in self._header.neurons.items()
        }
        return Trace(output=output, spikes=spikes)

    def _check_next(self, x: np.ndarray[Any, Any]) -> None:
        super()._check_next(x)
        if self._artifact.static_input and self._image is not None:
            check_static(np.concatenate([self._image[None], x]))

    def _check_spikes(self, seen: Mapping[str, Tensor]) -> None:
        for node, values in seen.items():
            if bool((values > 1).any()):
                raise InputError(
                    f"{self._name}: node {node!r} spikes several times in a step: a potential lies millions of "
                    "thresholds above its own, which this dialect cannot tell from several spikes; scale the input down"
                )

    def _check_state(self, steps: int) -> None:
        """Raise `StateError`, and need a reset, if a state is no longer finite after the last steps."""
        node = self._engine.overflow()
        if node is not None:
            self._life.overflowed(self._state_name(node), self._life.steps - steps + 1)

    def _state_name(self, node: str) -> str:
        """A node's state, as a state tensor of the machine is called: layer.role."""
        stem, _, role = node.partition("__")
        layers = {neuron.node.partition("__")[0]: layer for layer, neuron in self._header.neurons.items()}
        return f"{layers.get(stem, stem)}.{role or 'state'}"


def load(path: str | Path, *, simulator: str | None = None) -> NirRunner:
    """Open an exported file in a simulator; see `NirRunner`."""
    return NirRunner(path, simulator=simulator)


def installed(simulator: str) -> bool:
    """Whether a simulator is there to run."""
    if simulator == "canonical":
        return True
    try:
        version(simulator)
    except PackageNotFoundError:
        return False
    return True


def _choose(path: Path, flavour: str, simulator: str | None) -> str:
    able = READS[flavour]
    if simulator in (None, flavour):
        return able[0]
    if simulator not in ENGINES:
        raise InputError(f"simulator must be one of {', '.join(ENGINES)}, got {simulator!r}")
    if simulator not in able:
        raise ArtifactError(
            f"{path} was written for {TARGETS[flavour].title}, which {simulator} does not read alike; "
            f'export again with simulator="{simulator}"'
        )
    return simulator
