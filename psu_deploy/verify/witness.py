"""Who watches a verification, and keeps of its runs what the findings do not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.runtime import Artifact
from psu_deploy.verify.certificate import Certificate
from psu_deploy.verify.comparison import Rule


@dataclass(frozen=True)
class Seen:
    """Two runs of the same samples, as they were compared.

    Attributes:
        names: of the first and the second run.
        traces: of both, numpy, aligned to the input.
        certificates: of both; none where the runs were not judged.
        rule: what is asked of the second run; see `Comparison.rule`.
    """

    names: tuple[str, str]
    traces: tuple[Trace, Trace]
    certificates: tuple[Certificate, ...]
    rule: Rule


class Witness(Protocol):
    """Told of every run while it is in memory."""

    def begin(self, machine: StateMachine, x: Any, artifact: Artifact | None, pairs: Sequence[tuple[str, str]]) -> None:
        """Before anything runs: the network, its input (T, B, *features), the artifact, and what will be compared."""

    def see(self, start: int, pairs: Sequence[Seen]) -> None:
        """A part of the batch from sample `start` on: every comparison that had no holes, in order."""


__all__ = ["Seen", "Witness"]
