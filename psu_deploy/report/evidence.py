"""What a page shows besides the findings: handed to `verify`, and then to `write_report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.report.collected import Collected
from psu_deploy.report.differences import Differences
from psu_deploy.runtime import Artifact
from psu_deploy.verify.witness import Seen


class Evidence:
    """Collects, while `verify` runs, what `write_report` draws.

    >>> import torch
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.PSU(threshold=0.1))
    >>> x, evidence = torch.ones(5, 2, 3), psu.Evidence()
    >>> machine = psu.to_state_machine(model, input_shape=(3,))
    >>> report = psu.verify(model, machine, x, allow_silent=True, evidence=evidence)
    >>> evidence.collected.machine.input_shape
    (3,)
    """

    def __init__(self) -> None:
        self._collected: Collected | None = None

    @property
    def collected(self) -> Collected:
        """Everything there is.

        Raises:
            InputError: if there is nothing yet.
        """
        if self._collected is None:
            raise InputError(
                "this evidence has seen no verification: psu.verify(model, artifact, x, evidence=it) first"
            )
        return self._collected

    def begin(self, machine: StateMachine, x: Any, artifact: Artifact | None, pairs: Sequence[tuple[str, str]]) -> None:
        """Start over; `verify` calls it before anything runs."""
        self._collected = Collected(machine, x, artifact, [Differences(names) for names in pairs])

    def see(self, start: int, pairs: Sequence[Seen]) -> None:
        """Keep what a page shows of the samples from `start` on; `verify` calls it."""
        if pairs:
            self.collected.see(start, pairs)
