"""What a pass is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from psu_deploy.errors import InternalError
from psu_deploy.machine.state_machine import StateMachine


class Pass(ABC):
    """Does one thing to a machine and returns a new one; `requires` before, `ensures` after.

    A broken promise is our fault, so both raise `InternalError`.
    """

    def __call__(self, machine: StateMachine) -> StateMachine:
        """Run the pass and check its promises."""
        self.requires(machine)
        result = self.apply(machine)
        if result.input_shape != machine.input_shape or result.outputs != machine.outputs:
            raise InternalError(f"{type(self).__name__} changed the shape of the network's input or output")
        self.ensures(machine, result)
        return result

    def requires(self, machine: StateMachine) -> None:
        """Check what must hold before. Nothing by default."""
        del machine

    @abstractmethod
    def apply(self, machine: StateMachine) -> StateMachine:
        """Return the new machine."""

    def ensures(self, before: StateMachine, after: StateMachine) -> None:
        """Check what must hold after. Nothing by default."""
        del before, after
