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

    >>> import psu_deploy as psu
    >>> evidence = psu.Evidence()
    >>> report = psu.verify(model, "net.onnx", x, evidence=evidence)  # doctest: +SKIP
    >>> psu.write_report("report.html", report, evidence)  # doctest: +SKIP
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
