"""The cases of a journal, counted by target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psu_deploy.fuzz.journal import Entry

COLUMNS = ("target", "cases", "ok", "unproven", "refused", "failed", "spikes", "edges", "a minute")


@dataclass(frozen=True)
class Totals:
    """What came of all cases of a target.

    Attributes:
        target: its name.
        statuses: how often which.
        refusals: reason -> how often.
        spikes: decisions compared.
        knife_edges: of them, those that rounding turned.
        seconds: that all of them took.
    """

    target: str
    statuses: Counter[str]
    refusals: Counter[str]
    spikes: int
    knife_edges: int
    seconds: float

    @property
    def cases(self) -> int:
        """How many there are."""
        return self.statuses.total()

    def row(self) -> tuple[str, ...]:
        """Under `COLUMNS`."""
        counts = [self.cases, *(self.statuses[name] for name in ("ok", "unproven", "refused", "failed"))]
        rate = f"{60 * self.cases / self.seconds:.0f}" if self.seconds else "-"
        return (self.target, *(f"{n:,}" for n in (*counts, self.spikes, self.knife_edges)), rate)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        counts = {name: self.statuses[name] for name in ("ok", "unproven", "refused", "failed")}
        numbers = {"spikes": self.spikes, "knife_edges": self.knife_edges, "seconds": round(self.seconds, 3)}
        refusals = [{"reason": reason, "cases": count} for reason, count in self.refusals.most_common()]
        return {"target": self.target, "cases": self.cases, **counts, **numbers, "refusals": refusals}


def totals(entries: Sequence[Entry], targets: Iterable[str]) -> list[Totals]:
    """One per target."""
    return [_of(target, [entry for entry in entries if entry.target == target]) for target in targets]


def _of(target: str, entries: Sequence[Entry]) -> Totals:
    outcomes = [entry.outcome for entry in entries]
    return Totals(
        target,
        Counter(outcome.status for outcome in outcomes),
        Counter(outcome.kind for outcome in outcomes if outcome.status == "refused"),
        sum(outcome.spikes for outcome in outcomes),
        sum(outcome.knife_edges for outcome in outcomes),
        sum(entry.seconds for entry in entries),
    )
