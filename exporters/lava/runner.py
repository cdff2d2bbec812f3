"""Runs a .net file: in Lava, in fixed point, or in our own integer reference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from psu_deploy.errors import InputError, StateError
from psu_deploy.exporters.lava.environment import find
from psu_deploy.exporters.lava.input_code import clipped_share, encode
from psu_deploy.exporters.lava.integer_network import IntegerNetwork
from psu_deploy.exporters.lava.job import run_job
from psu_deploy.exporters.lava.read import read
from psu_deploy.exporters.lava.reference import Reference
from psu_deploy.exporters.lava.report import QuantisationReport
from psu_deploy.exporters.lava.structure import structure_of
from psu_deploy.exporters.lava.target import SIMULATORS
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_horizon,
    check_no_state,
    check_sequence,
    check_static,
    check_step,
)
from psu_deploy.machine.overflow import OUTPUT
from psu_deploy.runtime import Artifact, Structure
from psu_deploy.runtime.lifecycle import Lifecycle, Unique

_log = logging.getLogger(__name__)
_DTYPES = ("float32",)
_NO_STATE = "Lava starts from silence; run the sequence from its start instead"
TIMEOUT = 600.0
"""Seconds for one run in Lava."""


class Sent(NamedTuple):
    """What came out of a run: the last layer's numbers (T, B, *shape), and those of every recorded layer."""

    output: NDArray[Any]
    layers: dict[int, NDArray[Any]]


class LavaRunner(Unique):
    """Runs an exported network on sequences, sample after sample without a gap.

    Lava answers one step late per layer of weights. That is taken care of here: row t of a result belongs to row t of
    the input, and `artifact.latency` says how late it was.

    Args:
        path: file written by `psu_deploy.export(..., target="lava")`.
        simulator: "lava": its CPU simulator in fixed point; "integer": our own reference in numpy, for which Lava need
            not be installed. None = "lava".
        timeout: seconds that one run in Lava may take.

    Raises:
        ArtifactError: if the file is missing, damaged or not ours.
        InputError: if there is no such simulator.
        MissingExtraError: if h5py, or an interpreter with Lava, is not installed.
    """

    def __init__(self, path: str | Path, *, simulator: str | None = None, timeout: float | None = None) -> None:
        self._path = Path(path)
        self._simulator = "lava" if simulator is None else simulator
        if self._simulator not in SIMULATORS:
            raise InputError(f"what runs a .net file is one of {', '.join(SIMULATORS)}, got {simulator!r}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InputError(f"timeout is a number of seconds and must be above 0, got {timeout!r}")
        self._network, self._metadata = read(self._path)
        self._content = self._path.read_bytes()  # what Lava is given, whatever becomes of the file
        self._artifact = artifact_of(self._path, self._metadata)
        self._timeout = TIMEOUT if timeout is None else timeout
        self._python = None if self._simulator == "integer" else find().python
        self._life = Lifecycle()
        self._decoder = _Decoder(self._network, self._metadata)
        self._reference: Reference | None = None
        self._begun = False

    @property
    def artifact(self) -> Artifact:
        """What is executed."""
        return self._artifact

    @property
    def name(self) -> str:
        """What executes it, for reports."""
        return _NAMES[self._simulator]

    @property
    def rounds(self) -> bool:
        """Whether it computes with rounded numbers, so that spikes may differ from the machine's."""
        return True

    @property
    def repeats(self) -> LavaRunner | None:
        """The runner whose every number this one must repeat; None = there is none."""
        return self._copy("integer") if self._simulator == "lava" else None

    @property
    def resumes(self) -> bool:
        """Whether a sequence may be fed in parts; False = `run` alone."""
        return self._simulator == "integer"

    @property
    def report(self) -> QuantisationReport:
        """What rounding did, layer by layer, as it was measured at export."""
        return QuantisationReport.from_dict(self._metadata["report"])

    def notes(self, x: Any) -> list[str]:
        """What is worth knowing about a run on x: how much of it is cut off."""
        share = clipped_share(self._network, _numpy(x))
        code = self._network.code
        low, high = code.low * code.unit, code.high * code.unit
        said = (
            f"{share:.2%} of the input lies outside {low:g} .. {high:g}, the range of the calibration data, and is cut"
        )
        return [f"{said} to it; export again with calibration data like this"] if share else []

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says about itself, the quantisation report among it."""
        return dict(self._metadata)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""
        return tuple(self._metadata["input_shape"])

    @property
    def batch_size(self) -> int | None:
        """B since the last reset; None before it, and while there must be another."""
        return self._life.batch

    @property
    def state(self) -> dict[str, Any]:
        """Nothing: Lava keeps its state to itself."""
        return {}

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over, from silence. What is refused changes nothing.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if a state is given.
        """
        with self._life.alone():
            batch = check_batch_size(batch_size)
            check_no_state(state, _NO_STATE)
            self._restart(batch)

    def step(self, x: Any) -> NDArray[Any]:
        """Advance by one step: (B, *input_shape) float32 numpy -> (B, *features). Lava itself runs whole sequences.

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, if B is not that of the last reset, or in Lava.
            HorizonError: no such step.
        """
        with self._life.alone():
            self._life.check()
            check_step(_numpy(x), self.input_shape, _DTYPES)
            row: NDArray[Any] = self._advance(x[None])[0]
            return row

    def run(self, x: Any, *, reset: bool = True) -> NDArray[Any]:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state, which Lava cannot.

        Returns:
            Output of every step, (T, B, *features), float32: with a readout, `y[-1]` is the answer.

        Raises:
            InputError, StateError, HorizonError: as `step`; what is refused is refused before the first step.
            EngineError: if Lava crashes, or is not done in time; then there must be a reset.
        """
        with self._life.alone():
            self._check(x)
            if reset:
                self._restart(x.shape[1])
            return self._advance(x)

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep the spikes of every neuron layer.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: must be None or empty.
        """
        with self._life.alone():
            self._check(x)
            check_no_state(state, _NO_STATE)
            other = self._copy(self._simulator)
        shapes = self._metadata["neurons"]
        places = {layer.name: index for index, layer in enumerate(self._network.layers) if layer.name in shapes}
        other.reset(x.shape[1])
        sent = other._send(x, tuple(places.values()))
        spikes = {
            name: sent.layers[index].reshape(*x.shape[:2], *shapes[name]).astype(np.float32)
            for name, index in places.items()
        }
        return Trace(output=other._read_out(sent.output), spikes=spikes)

    def _restart(self, batch: int) -> None:
        with self._life.restarting(batch, self.input_shape):
            self._reference = Reference(self._network, batch) if self.resumes else None
            self._decoder = _Decoder(self._network, self._metadata)
            self._begun, self._life.steps = False, 0

    def _advance(self, x: NDArray[Any]) -> NDArray[Any]:
        """Some steps on, (T, B, ...); nothing is touched before all has been checked."""
        self._life.check(x.shape[1])
        if self._begun and not self.resumes:
            raise StateError('Lava runs whole sequences from their start; use run(x), or load with simulator="integer"')
        check_horizon(self._life.steps, self._network.horizon, len(x))
        for note in self.notes(x):
            _log.warning(note)
        with self._life.moving():
            self._begun = True
            sent = self._send(x, ())
            self._life.steps += len(x)
            return self._read_out(sent.output)

    def _read_out(self, sent: NDArray[Any]) -> NDArray[Any]:
        """Real numbers. Whole ones saturate: only these can overflow."""
        y = self._decoder.read_out(sent)
        finite = np.isfinite(y).reshape(len(y), -1).all(1)
        if not finite.all():
            self._life.overflowed(OUTPUT, max(self._life.steps - len(y), 0) + 1 + int(finite.argmin()))
        return y

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's integers stand against those that exporting a machine gives. Nothing runs."""
        return structure_of(self._content, self._metadata, machine)

    def _copy(self, simulator: str) -> LavaRunner:
        """Another runner of the same file, at its start."""
        other = LavaRunner.__new__(LavaRunner)
        vars(other).update(vars(self))
        other._simulator, other._life = simulator, Lifecycle()
        return other

    def _send(self, x: NDArray[Any], record: tuple[int, ...]) -> Sent:
        if self._reference is not None:
            sent = self._reference.advance(encode(self._network, x))
            return Sent(sent[-1], {index: sent[index] for index in record})
        return self._in_lava(x, record)

    def _in_lava(self, x: NDArray[Any], record: tuple[int, ...]) -> Sent:
        """Time-first and a batch here, sample after sample there."""
        assert self._python is not None
        steps, samples = x.shape[:2]
        shape = self._network.input_shape
        result = run_job(
            self._python,
            self._content,
            encode(self._network, x).swapaxes(0, 1).reshape(steps * samples, *shape),
            steps=steps,
            samples=samples,
            record=list(record),
            timeout=self._timeout,
        )

        def back(rows: NDArray[Any], index: int) -> NDArray[Any]:
            shape = self._network.layers[index].shape
            return rows.reshape(samples, steps, *shape).swapaxes(0, 1)

        return Sent(back(result.output, -1), {index: back(result.layers[index], index) for index in record})

    def _check(self, x: Any) -> None:
        check_sequence(_numpy(x), self.input_shape, self._network.horizon, _DTYPES)
        if self._artifact.static_input:
            check_static(x)


_NAMES = {"lava": "Lava, fixed point", "integer": "integer reference"}


@dataclass
class _Decoder:
    """Turns the last layer's numbers into real ones, and does what the decoder says after every step."""

    network: IntegerNetwork
    metadata: Mapping[str, Any]
    total: Any = 0.0
    steps: int = 0

    def read_out(self, output: NDArray[Any]) -> NDArray[Any]:
        """(T, B, *shape) -> (T, B, *output_shape), float32."""
        real = output.astype(np.float64)
        if output.dtype.kind in "iu":
            real = real * self.network.units.reshape(-1, *[1] * (output.ndim - 3))
        real = real.reshape(*output.shape[:2], *self.metadata["output_shape"])
        rows = [self._read_out(row) for row in real]
        return np.stack(rows).astype(np.float32)

    def _read_out(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.metadata["readout"] == "last":
            return row
        self.total, self.steps = self.total + row, self.steps + 1
        result: NDArray[np.float64] = self.total / self.steps if self.metadata["readout"] == "mean" else self.total
        return result


def load(path: str | Path, *, simulator: str | None = None, timeout: float | None = None) -> LavaRunner:
    """Open an exported file in Lava; see `LavaRunner`."""
    return LavaRunner(path, simulator=simulator, timeout=timeout)


def artifact_of(path: Path, metadata: Mapping[str, Any]) -> Artifact:
    """An artifact from decoded metadata."""
    latency, horizon, report = len(metadata["layers"]), metadata["horizon"], metadata["report"]
    rounding = (
        f"int8 weights, Loihi-2-style fixed point: {report['flip_rate']:.3%} of {report['spikes_compared']:,} spikes "
        f"flipped on calibration data of {report['steps']} steps and {report['samples']} samples"
    )
    return Artifact(
        path=path,
        target="lava",
        fidelity="approximate",
        machine_hash=metadata["machine_hash"],
        horizon=None if horizon is None else horizon + latency,
        latency=latency,
        static_input=metadata["static_input"],
        versions=metadata["versions"],
        approximations=(rounding, *report["alarms"]),
    )


def _numpy(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        raise InputError("a Lava runner takes numpy; convert with x.numpy()")
    return x
