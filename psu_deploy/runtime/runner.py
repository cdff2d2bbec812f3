"""What every runner can do, whatever engine it drives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE, Arithmetic
from psu_deploy.runtime.artifact import Artifact
from psu_deploy.runtime.contents import Contents, Tensor
from psu_deploy.runtime.structure import Structure


class Runner(ABC):
    """Executes an artifact step by step on its real engine. Strict: what does not fit is an error, never a guess.

    A target derives its runner from this class. What is abstract it must give; the rest tells `verify` and the command
    line more, and has a default that claims nothing. `EngineRunner` has the checks and the order of the calls as well.
    """

    @property
    @abstractmethod
    def artifact(self) -> Artifact:
        """What is executed."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""

    @abstractmethod
    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over with a batch size, from the initial state or a given one."""

    @abstractmethod
    def step(self, x: Any) -> Any:
        """Advance by one step: (B, *input_shape) -> (B, *features), or name -> that where there are several outputs."""

    @abstractmethod
    def run(self, x: Any, *, reset: bool = True) -> Any:
        """Run a sequence: (T, B, *input_shape) -> (T, B, *features), as `step`. Starts over unless reset=False."""

    @abstractmethod
    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own, from the initial or a given state, and keep what every neuron layer did."""

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the current state, name -> array (B, *shape). By default nothing: the engine keeps it to itself."""
        return {}

    @property
    def name(self) -> str:
        """What executes it, for reports. By default the target."""
        return self.artifact.target

    @property
    def engine(self) -> str:
        """What the file is made to run in, for people. By default what executes it."""
        return self.name

    @property
    def arithmetic(self) -> Arithmetic:
        """In which operations its rounding differs from the machine's. By default in none."""
        return AS_THE_MACHINE

    @property
    def rounds(self) -> bool:
        """Whether it computes with rounded numbers, so that spikes may differ from the machine's. By default not."""
        return False

    def stand_in(self, machine: StateMachine) -> StateMachine:
        """The network with the rounded numbers that this one computes with, exactly. By default the network itself."""
        return machine

    @property
    def repeats(self) -> Runner | None:
        """The runner whose every number this one must repeat. By default there is none."""
        return None

    @property
    def resumes(self) -> bool:
        """Whether a sequence may be fed in parts, as by default; False = `run` alone."""
        return True

    @property
    def aligns(self) -> bool:
        """Whether row t of `run` belongs to row t of its input, however late the network answers.

        By default not: with a latency of L the first L rows are none, and L silent steps more must be fed.
        """
        return False

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says about itself, as plain data. By default nothing."""
        return {}

    @property
    def report(self) -> Any:
        """What the export measured, with `str()` and `to_dict()`. By default None: it measured nothing."""
        return None

    @property
    def contents(self) -> Contents:
        """Inputs, outputs, layers and state, as far as the file tells. By default the input alone."""
        return Contents(inputs=(Tensor("x", self.input_shape),))

    @property
    def memory(self) -> dict[str, int]:
        """What it takes on a chip: what for -> bytes. By default nothing: the file does not tell."""
        return {}

    def notes(self, x: Any) -> list[str]:
        """What is worth knowing about a run on x, (T, B, *input_shape), in words. By default nothing."""
        return []

    def structure(self, machine: StateMachine) -> Structure:
        """How what the file holds stands against what exporting a machine writes, number for number. Nothing runs.

        By default it is said that nobody looked.
        """
        return Structure(unchecked=f"what runs {self.artifact.target} files cannot hold them against an export")
