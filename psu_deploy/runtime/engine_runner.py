"""The calls of a runner, checked, one at a time, around whatever moves its engine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from psu_deploy.errors import InputError, StateError
from psu_deploy.machine import Trace
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_horizon,
    check_sequence,
    check_static,
    check_step,
)
from psu_deploy.machine.overflow import THE_OUTPUT
from psu_deploy.runtime.artifact import Artifact
from psu_deploy.runtime.header import Header
from psu_deploy.runtime.lifecycle import Lifecycle, Unique
from psu_deploy.runtime.runner import Runner

Array = np.ndarray[Any, Any]

_DTYPES = ("float32",)


class EngineRunner(Runner, Unique):
    """A runner that takes float32 numpy. What is refused changes nothing; what breaks off needs a reset.

    A subclass says how its engine starts (`_start`), goes on (`_advance`) and is watched (`_trace`). By default the
    engine keeps its state to itself, and none can be given.

    Args:
        path: the file.
        header: what it says of itself.
    """

    called: ClassVar[str]
    """In messages, with its article: "a NIR runner"."""

    stateless: ClassVar[str]
    """Why no state can be given."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._artifact = header.artifact(path)
        self._features = header.input_shape
        self._last = header.horizon
        self._facts = header.facts
        self._life = Lifecycle()

    @abstractmethod
    def _start(self, batch: int, state: Mapping[str, Array] | None) -> int:
        """Bring the engine to its start, or to a checked state; returns how many steps that state has done."""

    @abstractmethod
    def _advance(self, x: Array) -> Any:
        """Some steps on, (T, B, *features), all checked: what `run` gives. Counts them in the lifecycle."""

    @abstractmethod
    def _trace(self, x: Array, state: Mapping[str, Array] | None) -> Trace:
        """A checked sequence on its own; the runner's own state is not touched."""

    @property
    def artifact(self) -> Artifact:
        """What is executed."""
        return self._artifact

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""
        return self._features

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says about itself."""
        return dict(self._facts)

    @property
    def batch_size(self) -> int | None:
        """B since the last reset; None before it, and while there must be another."""
        return self._life.batch

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over. What is refused changes nothing; what fails later leaves a runner that needs another reset.

        Args:
            batch_size: B, at least 1.
            state: name -> array to start from; None = the initial state.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if the state does not fit, or none can be given, or if the state that is left behind turns out
                to have overflowed in the last steps, so that their answers are void; another reset starts over.
        """
        with self._life.alone():
            batch = check_batch_size(batch_size)
            self._restart(batch, self._given(state, batch))

    def step(self, x: Any) -> Any:
        """Advance by one step.

        Args:
            x: (B, *input_shape), float32 numpy.

        Returns:
            Output, (B, *features).

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, if B is not that of the last reset, if the engine runs whole sequences
                only, or if a state or the output has overflowed; then there must be a reset.
            HorizonError: no such step.
        """
        with self._life.alone():
            self._check_step(x)
            return self._go_on(x[None])[0]

    def run(self, x: Any, *, reset: bool = True) -> Any:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state.

        Returns:
            Output of every step, (T, B, *features); a dictionary where there are several. With a readout, `y[-1]` is
            the network's answer. Where the network answers L steps late, feed L silent steps more, and the first L rows
            are none; see `aligns`.

        Raises:
            InputError, StateError, HorizonError: as `step`; what is refused is refused before the first step.
            EngineError: if the engine fails; then there must be a reset.
        """
        with self._life.alone():
            self._check_sequence(x)
            if reset:
                self._restart(x.shape[1], None)
            self._life.check(x.shape[1])
            return self._go_on(x)

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep what every neuron layer did. The runner's own state is not touched.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: where to start; None = the initial state.

        Raises:
            InputError, StateError, HorizonError: as `run`.
        """
        with self._life.alone():
            self._check_sequence(x)
            return self._trace(x, self._given(state, x.shape[1]))

    def _restart(self, batch: int, state: Mapping[str, Array] | None) -> None:
        with self._life.restarting(batch, self._features):
            self._life.steps = self._start(batch, state)

    def _go_on(self, x: Array) -> Any:
        self._check_next(x)
        with self._life.moving():
            return self._advance(x)

    def _given(self, state: Mapping[str, Any] | None, batch: int) -> Mapping[str, Array] | None:
        """A state that was given, checked; None = the initial one."""
        if state is not None:  # not even an empty one: it would be a fresh start in disguise
            raise StateError(self.stateless)
        return None

    def _check_next(self, x: Array) -> None:
        """Raise an error if the engine cannot go on with x from where it is."""
        if not self.resumes and self._life.steps > self._life.began:
            raise StateError(f"{self.engine} runs whole sequences from their start; use run(x)")
        check_horizon(self._life.steps, self._last, len(x))

    def _check_step(self, x: Any) -> None:
        self._life.check()
        self._check_numpy(x)
        check_step(x, self._features, _DTYPES)
        self._life.check(len(x))

    def _check_sequence(self, x: Any) -> None:
        self._check_numpy(x)
        check_sequence(x, self._features, self._last, _DTYPES)
        if self._artifact.static_input:
            check_static(x)

    def _check_numpy(self, x: Any) -> None:
        if isinstance(x, torch.Tensor):
            raise InputError(f"{self.called} takes numpy; convert with x.numpy()")

    def _check_output(self, y: Array) -> None:
        """Raise `StateError`, and need a reset, unless the answers of the last len(y) steps are finite."""
        finite = np.isfinite(y).reshape(len(y), -1).all(1)
        if not finite.all():
            self._life.overflowed(THE_OUTPUT, self._life.steps - len(y) + 1 + int(finite.argmin()))
