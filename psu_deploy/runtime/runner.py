"""What every runner can do, whatever engine it drives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.runtime.artifact import Artifact
from psu_deploy.runtime.structure import Structure


class Runner(Protocol):
    """Executes an artifact step by step on its real engine. Strict: what does not fit is an error, never a guess."""

    @property
    def artifact(self) -> Artifact:
        """What is executed."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the current state, name -> array (B, *shape)."""
        ...

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over with a batch size, from the initial state or a given one."""
        ...

    def step(self, x: Any) -> Any:
        """Advance by one step: (B, *input_shape) -> (B, *features)."""
        ...

    def run(self, x: Any, *, reset: bool = True) -> Any:
        """Run a sequence: (T, B, *input_shape) -> (T, B, *features). Starts over unless reset=False."""
        ...

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own, from the initial or a given state, and keep what every neuron layer did."""
        ...

    def structure(self, machine: StateMachine) -> Structure:
        """How what the file holds stands against what exporting a machine writes, number for number. Nothing runs."""
        ...
