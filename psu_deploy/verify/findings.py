"""What a verification found: plain data, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psu_deploy.runtime import Structure
from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.comparison import Answers, Comparison

Status = Literal["EQUIVALENT", "MEASURED", "NOT EQUIVALENT", "NOT PROVEN"]

_SILENT = "nothing fired: try input that makes neurons fire (--data x.npy), or allow a silent network (--allow-silent)"


@dataclass(frozen=True)
class Findings:
    """All that `verify` found.

    Attributes:
        comparisons: one per pair of runs.
        notes: what the reader should know besides.
        structure: how the artifact's graph and numbers stand against an export; None = nobody asked.
        allow_silent: whether a network in which nothing fires may be called equivalent.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    structure: Structure | None = None
    allow_silent: bool = False

    @property
    def ok(self) -> bool:
        """Whether every comparison holds, and what was tried proves something; rounding is measured, not judged."""
        return self.status in ("EQUIVALENT", "MEASURED")

    @property
    def status(self) -> Status:
        """The verdict in one or two words."""
        if not self.comparisons or self.differences or not all(comparison.ok for comparison in self.comparisons):
            return "NOT EQUIVALENT"
        if self.unproven:
            return "NOT PROVEN"
        return "MEASURED" if any(comparison.rule == "rounded" for comparison in self.comparisons) else "EQUIVALENT"

    @property
    def differences(self) -> tuple[str, ...]:
        """Where the artifact's graph or numbers are not those of an export, in words."""
        return () if self.structure is None else self.structure.differences

    @property
    def unproven(self) -> tuple[str, ...]:
        """Why what was found proves nothing, in words."""
        found = tuple(reason for comparison in self.comparisons for reason in comparison.unproven)
        if self.nothing_fired and not self.allow_silent:
            found += (_SILENT,)
        measured = any(comparison.measured for comparison in self.comparisons)
        if measured and self.structure is not None and self.structure.unchecked:
            found += (f"its rounded numbers were not held against those of an export: {self.structure.unchecked}",)
        return found

    @property
    def nothing_fired(self) -> bool:
        """Whether no layer of the network fired at all."""
        layers = self.comparisons[0].layers if self.comparisons else ()
        return bool(layers) and all(layer.never_fired for layer in layers)

    @property
    def unexercised(self) -> tuple[str, ...]:
        """Neuron layers that never fired, or fired at every step: no decision in them was tried both ways."""
        layers = self.comparisons[0].layers if self.comparisons else ()
        return tuple(layer.name for layer in layers if layer.never_fired or layer.always_fired)

    @property
    def spikes_compared(self) -> int:
        """Decisions compared, over all comparisons."""
        return sum(comparison.spikes_compared for comparison in self.comparisons)

    @property
    def spike_flips(self) -> int:
        """Decisions that differ, over all comparisons, whatever the reason."""
        return sum(comparison.spike_flips for comparison in self.comparisons)

    @property
    def knife_edge_decisions(self) -> int:
        """Disputed decisions that rounding alone can turn."""
        # The machine is in two comparisons; a decision has margin and bound of whoever judged it behind its address.
        return len({decision[:4] for c in self.comparisons for decision in c.disputed if decision.knife_edge})

    @property
    def max_abs_error(self) -> float:
        """Largest difference of outputs, over all comparisons."""
        return max((comparison.max_abs_error for comparison in self.comparisons), default=float("nan"))

    @property
    def answers(self) -> Answers:
        """What the readout decided, in the comparison in which most of it differs."""
        return max((c.answers for c in self.comparisons), key=lambda answers: answers.changed, default=Answers())

    @property
    def first_divergence(self) -> Decision | None:
        """The earliest flip of the first comparison that has one: (layer, t, sample, neuron, margin, bound)."""
        return next((c.first_divergence for c in self.comparisons if c.first_divergence is not None), None)
