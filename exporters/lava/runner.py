"""Runs a .net file: in Lava, in fixed point, or in our own integer reference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError, StateError
from psu_deploy.exporters.integers.input_code import clipped_share, encode
from psu_deploy.exporters.integers.network import IntegerLayer
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.exporters.integers.report import QuantisationReport
from psu_deploy.exporters.lava.environment import find
from psu_deploy.exporters.lava.job import run_job
from psu_deploy.exporters.lava.read import read
from psu_deploy.exporters.lava.structure import structure_of
from psu_deploy.exporters.lava.target import SIMULATORS
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.runtime import Structure
from psu_deploy.runtime.contents import Contents, LayerLine, Tensor
from psu_deploy.runtime.engine_runner import EngineRunner
from psu_deploy.runtime.lifecycle import Lifecycle
from psu_deploy.runtime.readout import RunningReadout

_log = logging.getLogger(__name__)
TIMEOUT = 600.0
"""Seconds for one run in Lava."""


class Sent(NamedTuple):
    """What came out of a run: the last layer's numbers (T, B, *shape), and those of every recorded layer."""

    output: NDArray[Any]
    layers: dict[int, NDArray[Any]]


class LavaRunner(EngineRunner):
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

    called = "a Lava runner"
    stateless = "Lava starts from silence; run the sequence from its start instead"

    def __init__(self, path: str | Path, *, simulator: str | None = None, timeout: float | None = None) -> None:
        source = Path(path)
        self._simulator = "lava" if simulator is None else simulator
        if self._simulator not in SIMULATORS:
            raise InputError(f"what runs a .net file is one of {', '.join(SIMULATORS)}, got {simulator!r}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InputError(f"timeout is a number of seconds and must be above 0, got {timeout!r}")
        self._network, self._header = read(source)
        super().__init__(source, self._header)
        self._content = source.read_bytes()  # what Lava is given, whatever becomes of the file
        self._timeout = TIMEOUT if timeout is None else timeout
        self._python = None if self._simulator == "integer" else find().python
        self._readout = RunningReadout(self._header.readout)
        self._reference: Reference | None = None

    @property
    def name(self) -> str:
        """What executes it, for reports."""
        return _NAMES[self._simulator]

    @property
    def engine(self) -> str:
        """What the file is made to run in."""
        return "Lava"

    @property
    def aligns(self) -> bool:
        """The rows that Lava sends before the first answer are dropped here."""
        return True

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
        return QuantisationReport.from_dict(self._header.report)

    def notes(self, x: Any) -> list[str]:
        """What is worth knowing about a run on x: how much of it is cut off."""
        self._check_numpy(x)
        share = clipped_share(self._network, x)
        code = self._network.code
        low, high = code.low * code.unit, code.high * code.unit
        said = (
            f"{share:.2%} of the input lies outside {low:g} .. {high:g}, the range of the calibration data, and is cut"
        )
        return [f"{said} to it; export again with calibration data like this"] if share else []

    @property
    def contents(self) -> Contents:
        """Every layer of weights, with the neurons behind it."""

        def kind(layer: IntegerLayer) -> str:
            return f"{type(layer.synapse).__name__}, {type(layer.neuron).__name__}"

        layers = (LayerLine(layer.name, kind(layer), layer.shape) for layer in self._network.layers)
        ends = Tensor("input", self._features), Tensor("output", self._header.output_shape)
        return Contents(inputs=ends[:1], outputs=ends[1:], layers=tuple(layers))

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's integers stand against those that exporting a machine gives. Nothing runs."""
        return structure_of(self._content, self._header.facts, machine)

    def _copy(self, simulator: str) -> LavaRunner:
        """Another runner of the same file, at its start."""
        other = LavaRunner.__new__(LavaRunner)
        vars(other).update(vars(self))
        other._simulator, other._life = simulator, Lifecycle()
        return other

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        self._reference = Reference(self._network, batch) if self.resumes else None
        self._readout = RunningReadout(self._header.readout)
        return 0

    def _advance(self, x: NDArray[Any]) -> NDArray[Any]:
        for note in self.notes(x):
            _log.warning(note)
        return self._recorded(x, ())[0]

    def _trace(self, x: NDArray[Any], state: Mapping[str, Any] | None) -> Trace:
        """The spikes of every neuron layer."""
        shapes = self._header.neurons
        places = {layer.name: index for index, layer in enumerate(self._network.layers) if layer.name in shapes}
        other = self._copy(self._simulator)
        other.reset(x.shape[1])
        output, layers = other._recorded(x, tuple(places.values()))
        spikes = {
            name: layers[index].reshape(*x.shape[:2], *shapes[name]).astype(np.float32)
            for name, index in places.items()
        }
        return Trace(output=output, spikes=spikes)

    def _recorded(self, x: NDArray[Any], record: tuple[int, ...]) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        """Some steps on: outputs, and what the recorded layers sent."""
        sent = self._send(x, record)
        self._life.steps += len(x)
        output = self._real(sent.output)
        self._check_output(output)  # whole numbers saturate: only their sum overflows, or Lava in floating point
        return output, sent.layers

    def _real(self, sent: NDArray[Any]) -> NDArray[Any]:
        """The last layer's numbers (T, B, *shape) as the network's answers (T, B, *output_shape), float32."""
        real = sent.astype(np.float64)
        if sent.dtype.kind in "iu":
            real = real * self._network.units.reshape(-1, *[1] * (sent.ndim - 3))
        return self._readout(real.reshape(*sent.shape[:2], *self._header.output_shape)).astype(np.float32)

    def _check_next(self, x: NDArray[Any]) -> None:
        if not self.resumes and self._life.steps > self._life.began:
            raise StateError('Lava runs whole sequences from their start; use run(x), or load with simulator="integer"')
        super()._check_next(x)

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


_NAMES = {"lava": "Lava, fixed point", "integer": "integer reference"}


def load(path: str | Path, *, simulator: str | None = None, timeout: float | None = None) -> LavaRunner:
    """Open an exported file in Lava; see `LavaRunner`."""
    return LavaRunner(path, simulator=simulator, timeout=timeout)
