"""Runs a .net file: in Lava, in fixed point, or in our own integer reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from psu_deploy.errors import InputError, StateError
from psu_deploy.exporters.integers.runner import IntegerRunner, Sent
from psu_deploy.exporters.lava.environment import find
from psu_deploy.exporters.lava.job import run_job
from psu_deploy.exporters.lava.read import read
from psu_deploy.exporters.lava.structure import structure_of
from psu_deploy.exporters.lava.target import SIMULATORS
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Structure

TIMEOUT = 600.0
"""Seconds for one run in Lava."""


class LavaRunner(IntegerRunner):
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
        network, header = read(source)
        super().__init__(source, header)
        self._hold(network, header, in_numpy=self._simulator == "integer")
        self._content = source.read_bytes()  # what Lava is given, whatever becomes of the file
        self._timeout = TIMEOUT if timeout is None else timeout
        self._python = None if self._in_numpy else find().python

    @property
    def name(self) -> str:
        """What executes it, for reports."""
        return "integer reference" if self._in_numpy else "Lava, fixed point"

    @property
    def engine(self) -> str:
        """What the file is made to run in."""
        return "Lava"

    @property
    def aligns(self) -> bool:
        """The rows that Lava sends before the first answer are dropped here."""
        return True

    @property
    def resumes(self) -> bool:
        """Whether a sequence may be fed in parts; False = `run` alone."""
        return self._in_numpy

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's integers stand against those that exporting a machine gives. Nothing runs."""
        return structure_of(self._content, self._header.facts, machine)

    def _check_next(self, x: NDArray[Any]) -> None:
        if not self.resumes and self._life.steps > self._life.began:
            raise StateError('Lava runs whole sequences from their start; use run(x), or load with simulator="integer"')
        super()._check_next(x)

    def _in_engine(self, numbers: NDArray[Any], record: tuple[int, ...]) -> Sent:
        """Time-first and a batch here, sample after sample there."""
        assert self._python is not None
        steps, samples = numbers.shape[:2]
        shape = self._network.input_shape
        result = run_job(
            self._python,
            self._content,
            numbers.swapaxes(0, 1).reshape(steps * samples, *shape),
            steps=steps,
            samples=samples,
            record=list(record),
            timeout=self._timeout,
        )

        def back(rows: NDArray[Any], index: int) -> NDArray[Any]:
            shape = self._network.layers[index].shape
            return rows.reshape(samples, steps, *shape).swapaxes(0, 1)

        return Sent(back(result.output, -1), {index: back(result.layers[index], index) for index in record})


def load(path: str | Path, *, simulator: str | None = None, timeout: float | None = None) -> LavaRunner:
    """Open an exported file in Lava; see `LavaRunner`."""
    return LavaRunner(path, simulator=simulator, timeout=timeout)
