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

from psu_deploy.errors import ArtifactError, InputError, StateError
from psu_deploy.exporters.nir.engines import ENGINES, READS, Engine
from psu_deploy.exporters.nir.files import read_graph
from psu_deploy.exporters.nir.metadata import our_metadata
from psu_deploy.exporters.nir.structure import structure_of
from psu_deploy.exporters.nir.target import TARGETS
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.inputs import check_batch_size, check_no_state, check_sequence, check_static, check_step
from psu_deploy.machine.overflow import OUTPUT
from psu_deploy.runtime import Artifact, Structure
from psu_deploy.runtime.lifecycle import Lifecycle, Unique
from psu_deploy.verify import Arithmetic

_DTYPES = ("float32",)
_NO_STATE = "a NIR simulator keeps its state to itself; run the sequence from its start instead"


class NirRunner(Unique):
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
        self._life = Lifecycle()
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
        """B since the last reset; None before it, and while there must be another."""
        return self._life.batch

    @property
    def state(self) -> dict[str, Any]:
        """Nothing: a simulator keeps its state to itself."""
        return {}

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over. What is refused changes nothing; what fails later leaves a runner that needs another reset.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if a state is given; a simulator starts from its own.
        """
        with self._life.alone():
            batch = check_batch_size(batch_size)
            check_no_state(state, _NO_STATE)
            self._restart(batch)

    def step(self, x: Any) -> np.ndarray[Any, Any]:
        """Advance by one step: (B, *input_shape) float32 numpy -> (B, *features).

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, if B is not that of the last reset, or if the output or, in our own
                executor, a state has overflowed; then there must be a reset.
        """
        with self._life.alone():
            self._life.check()
            check_step(_numpy(x), self._features, _DTYPES)
            self._life.check(len(x))
            result: np.ndarray[Any, Any] = self._advance(x[None])[0][0]
            return result

    def run(self, x: Any, *, reset: bool = True) -> np.ndarray[Any, Any]:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state.

        Returns:
            Output of every step, (T, B, *features), as the machine gives it: with a readout, `y[-1]` is the answer.

        Raises:
            InputError, StateError: as `step`; what is refused is refused before the first step.
        """
        with self._life.alone():
            self._check(x)
            if reset:
                self._restart(x.shape[1])
            self._life.check(x.shape[1])
            return self._advance(x)[0]

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep the spikes of every neuron layer. Simulators tell no more than that.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: must be None or empty.
        """
        with self._life.alone():
            self._check(x)
            check_no_state(state, _NO_STATE)
            other = NirRunner.of(self._path, self._graph, self._name)
        other.reset(x.shape[1])
        output, seen = other._advance(x)
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
        """Some steps on from a checked start: outputs, and what the watched nodes gave."""
        if self._begun and not self._engine.resumes:
            raise StateError(f"{self._name} runs whole sequences from their start; use run(x)")
        if self._artifact.static_input and self._image is not None:
            check_static(np.concatenate([self._image[None], x]))
        with self._life.moving():
            self._begun, self._image = True, x[0].copy()
            y, seen = self._engine.advance(torch.from_numpy(np.require(x, requirements=["C", "W"])))
            self._check_spikes(seen)
            output = self._read_out(y.numpy().reshape(*x.shape[:2], *self._metadata["output_shape"]))
            self._life.steps += len(x)
            self._look(output)
        return output, {name: values.numpy() for name, values in seen.items()}

    def _check_spikes(self, seen: Mapping[str, Tensor]) -> None:
        for node, values in seen.items():
            if bool((values > 1).any()):
                raise InputError(
                    f"{self._name}: node {node!r} spikes several times in a step: a potential lies millions of "
                    "thresholds above its own, which this dialect cannot tell from several spikes; scale the input down"
                )

    def _look(self, output: np.ndarray[Any, Any]) -> None:
        """Raise `StateError`, and need a reset, if a state or the output of the last steps is not finite."""
        node = self._engine.overflow()
        finite = np.isfinite(output).reshape(len(output), -1).all(1)
        if node is None and finite.all():
            return
        first = self._life.steps - len(output) + 1
        if node is None:
            self._life.overflowed(OUTPUT, first + int(finite.argmin()))
        self._life.overflowed(self._state_name(node), first)

    def _state_name(self, node: str) -> str:
        """A node's state, as a state tensor of the machine is called: layer.role."""
        stem, _, role = node.partition("__")
        layers = {neuron["node"].partition("__")[0]: layer for layer, neuron in self._neurons.items()}
        return f"{layers.get(stem, stem)}.{role or 'state'}"

    def _restart(self, batch: int) -> None:
        with self._life.restarting(batch, self._features):
            self._engine.start(batch)
            self._life.steps, self._sum, self._begun, self._image = 0, 0.0, False, None

    def _read_out(self, output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the decoder says after every step; it is no part of a NIR graph."""
        if self._metadata["readout"] == "last":
            return output
        rows = []
        mean = self._metadata["readout"] == "mean"
        for steps, y_t in enumerate(output, self._life.steps + 1):
            self._sum = self._sum + y_t
            rows.append(self._sum / np.float32(steps) if mean else self._sum)
        return np.stack(rows)

    def _check(self, x: Any) -> None:
        check_sequence(_numpy(x), self._features, None, _DTYPES)
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
