"""Runs an exported NIR file in a simulator, one step or one sequence at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

from psu_deploy.errors import ArtifactError, InputError, StateError
from psu_deploy.exporters.nir.engines import ENGINES, READS, Engine
from psu_deploy.exporters.nir.metadata import our_metadata
from psu_deploy.exporters.nir.structure import structure_of
from psu_deploy.exporters.nir.target import TARGETS
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_reset,
    check_samples,
    check_sequence,
    check_static,
    check_step,
)
from psu_deploy.nir_files import read_graph
from psu_deploy.runtime import Artifact, Structure
from psu_deploy.verify import Arithmetic

_DTYPES = ("float32",)


class NirRunner:
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

    def __init__(self, path: str | Path, *, simulator: str | None = None) -> None:
        self._open(Path(path), read_graph(Path(path)), simulator)

    @classmethod
    def of(cls, path: Path, graph: nir.NIRGraph, simulator: str) -> NirRunner:
        """A runner of a file that is read already."""
        runner = cls.__new__(cls)
        runner._open(path, graph, simulator)
        return runner

    def _open(self, path: Path, graph: nir.NIRGraph, simulator: str | None) -> None:
        self._path = path
        self._graph = graph
        self._metadata = our_metadata(self._path, self._graph)
        self._artifact = artifact_of(self._path, self._metadata)
        self._name = _choose(self._path, self._metadata["flavour"], simulator)
        self._features = tuple(self._metadata["input_shape"])
        self._neurons: dict[str, Any] = self._metadata["neurons"]
        ENGINES[self._name].installed()
        self._engine = self._new_engine()
        self._batch: int | None = None
        self._steps = 0
        self._sum: Any = 0.0
        self._begun = False
        self._image: Any = None

    @property
    def artifact(self) -> Artifact:
        """What is executed."""
        return self._artifact

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
    def facts(self) -> dict[str, Any]:
        """What the file says about itself."""
        return dict(self._metadata)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""
        return self._features

    @property
    def batch_size(self) -> int | None:
        """B since the last reset; None before it."""
        return self._batch

    @property
    def state(self) -> dict[str, Any]:
        """Nothing: a simulator keeps its state to itself."""
        return {}

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if a state is given; a simulator starts from its own.
        """
        check_batch_size(batch_size)
        if state:
            raise StateError("a NIR simulator keeps its state to itself; run the sequence from its start instead")
        self._engine.start(batch_size)
        self._batch, self._steps, self._sum, self._begun = batch_size, 0, 0.0, False
        self._image = None

    def step(self, x: Any) -> np.ndarray[Any, Any]:
        """Advance by one step: (B, *input_shape) float32 numpy -> (B, *features).

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, or if B is not that of the last reset.
        """
        check_reset(self._batch)
        check_step(x, self._features, _DTYPES)
        check_samples(len(x), self._batch)
        result: np.ndarray[Any, Any] = self._advance(_numpy(x)[None])[0][0]
        return result

    def run(self, x: Any, *, reset: bool = True) -> np.ndarray[Any, Any]:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state.

        Returns:
            Output of every step, (T, B, *features), as the machine gives it: with a readout, `y[-1]` is the answer.
        """
        self._check(x)
        if reset:
            self.reset(x.shape[1])
        else:
            check_samples(x.shape[1], self._batch)
        return self._advance(_numpy(x))[0]

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep the spikes of every neuron layer. Simulators tell no more than that.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: must be None or empty.
        """
        self._check(x)
        other = copy.copy(self)
        other._engine = self._new_engine()
        other.reset(x.shape[1], state)
        output, seen = other._advance(_numpy(x))
        spikes = {
            layer: seen[neuron["node"]].reshape(*x.shape[:2], *neuron["shape"])
            for layer, neuron in self._neurons.items()
        }
        return Trace(output=output, spikes=spikes)

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's nodes, edges and numbers stand against what exporting a machine writes. Nothing runs."""
        return structure_of(self._graph, self._metadata, machine)

    def _new_engine(self) -> Engine:
        return ENGINES[self._name](self._graph, [neuron["node"] for neuron in self._neurons.values()])

    def _advance(self, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
        if self._begun and not self._engine.resumes:
            raise StateError(f"{self._name} runs whole sequences from their start; use run(x)")
        if self._artifact.static_input:
            self._image = x[0] if self._image is None else self._image
            check_static(np.concatenate([self._image[None], x]))
        self._begun = True
        y, seen = self._engine.advance(torch.from_numpy(np.require(x, requirements=["C", "W"])))
        for node, values in seen.items():
            if bool((values > 1).any()):
                raise InputError(
                    f"{self._name}: node {node!r} spikes several times in a step: a potential lies millions of "
                    "thresholds above its own, which this dialect cannot tell from several spikes; scale the input down"
                )
        output = y.numpy().reshape(*x.shape[:2], *self._metadata["output_shape"])
        return self._read_out(output), {name: values.numpy() for name, values in seen.items()}

    def _read_out(self, output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the decoder says after every step; it is no part of a NIR graph."""
        if self._metadata["readout"] == "last":
            return output
        rows = []
        for y_t in output:
            self._sum = self._sum + y_t
            self._steps += 1
            mean = self._metadata["readout"] == "mean"
            rows.append(self._sum / np.float32(self._steps) if mean else self._sum)
        return np.stack(rows)

    def _check(self, x: Any) -> None:
        check_sequence(x, self._features, None, _DTYPES)
        if self._artifact.static_input:
            check_static(x)


def load(path: str | Path, *, simulator: str | None = None) -> NirRunner:
    """Open an exported file in a simulator; see `NirRunner`."""
    return NirRunner(path, simulator=simulator)


def artifact_of(path: Path, metadata: Mapping[str, Any]) -> Artifact:
    """An artifact from decoded metadata."""
    return Artifact(
        path=path,
        target="nir",
        fidelity=metadata["fidelity"],
        machine_hash=metadata["machine_hash"],
        horizon=None,
        latency=0,
        static_input=metadata["static_input"],
        versions=metadata["versions"],
        approximations=tuple(metadata["approximations"]),
    )


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


def _numpy(x: Any) -> np.ndarray[Any, Any]:
    if isinstance(x, torch.Tensor):
        raise InputError("a NIR runner takes numpy; convert with x.numpy()")
    array: np.ndarray[Any, Any] = x
    return array
