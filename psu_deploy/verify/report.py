"""What a verification found: plain data, a table for people, JSON for machines."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from psu_deploy.machine.files import atomic_path
from psu_deploy.verify.certificate import Decision

Rule = Literal["judged", "measured", "exact"]
"""What a comparison holds: see `Comparison.rule`."""

_SHOWN = 3
"""Reasons in the one sentence of a verdict; the others stand in the table and the JSON."""


@dataclass(frozen=True)
class LayerComparison:
    """One neuron layer, two runs.

    Attributes:
        name: of the layer.
        spikes_compared: decisions compared, T * B * neurons.
        spike_flips: decisions that differ, whatever the reason.
        firing_rate: share of decisions that are spikes, in the first run.
        max_potential_error: largest |V - V'|; None where a run cannot tell V.
    """

    name: str
    spikes_compared: int
    spike_flips: int
    firing_rate: float
    max_potential_error: float | None


@dataclass(frozen=True)
class Comparison:
    """Two runs of one network on the same input.

    Attributes:
        first: name of the first run, such as "module".
        second: name of the second run, such as "machine".
        layers: every neuron layer, in network order.
        disputed: decisions of either run that exact arithmetic would make differently.
        max_abs_error: largest difference of the outputs.
        failures: everything else that is wrong, in words: missing layers, NaN, outputs beyond the rounding bound.
        first_divergence: the earliest flip, if there is one.
        rule: "judged": only rounding errors may make a difference, and exact arithmetic says whether they did;
            "measured": the second run computes with rounded numbers, differences are counted and nothing is asked of
            them; "exact": the second run must repeat the first, number for number.
    """

    first: str
    second: str
    layers: tuple[LayerComparison, ...]
    disputed: tuple[Decision, ...]
    max_abs_error: float
    failures: tuple[str, ...]
    first_divergence: Decision | None
    rule: Rule = "judged"

    @property
    def spikes_compared(self) -> int:
        """Decisions compared."""
        return sum(layer.spikes_compared for layer in self.layers)

    @property
    def spike_flips(self) -> int:
        """Decisions that differ, whatever the reason."""
        return sum(layer.spike_flips for layer in self.layers)

    @property
    def unexplained(self) -> tuple[Decision, ...]:
        """Disputed decisions that rounding cannot explain."""
        return tuple(decision for decision in self.disputed if not decision.knife_edge)

    @property
    def ok(self) -> bool:
        """No failure, and what the rule asks for."""
        repeated = self.rule != "exact" or (self.spike_flips == 0 and self.max_abs_error == 0)
        return not self.failures and not self.unexplained and repeated


@dataclass(frozen=True)
class EquivalenceReport:
    """What `verify` found.

    `ok` is true if nothing is missing or NaN, every output is within its rounding bound, and every flip goes back to a
    knife-edge decision: one whose margin is smaller than the rounding error. Flips are always counted and shown.
    Where an artifact computes with rounded numbers, what that changed is measured, and what is proven is that its
    engine repeats their exact definition.

    Attributes:
        comparisons: one per pair of runs.
        notes: what the reader should know besides.
    """

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every comparison holds."""
        return bool(self.comparisons) and all(comparison.ok for comparison in self.comparisons)

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
    def first_divergence(self) -> Decision | None:
        """The earliest flip of the first comparison that has one: (layer, t, sample, neuron, margin, bound)."""
        return next((c.first_divergence for c in self.comparisons if c.first_divergence is not None), None)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        summary = {
            "ok": self.ok,
            "spikes_compared": self.spikes_compared,
            "spike_flips": self.spike_flips,
            "knife_edge_decisions": self.knife_edge_decisions,
            "max_abs_error": _number(self.max_abs_error),
            "first_divergence": None if self.first_divergence is None else _decision_dict(self.first_divergence),
        }
        comparisons = [_comparison_dict(comparison) for comparison in self.comparisons]
        return summary | {"notes": list(self.notes), "comparisons": comparisons}

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return Path(path)

    def __str__(self) -> str:
        parts = [_comparison_text(comparison) for comparison in self.comparisons]
        return "\n\n".join([*parts, *(f"note: {note}" for note in self.notes), self.verdict])

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.ok:
            return f"NOT EQUIVALENT: {self._reason()}"
        if any(comparison.rule == "measured" for comparison in self.comparisons):
            return self._measured_verdict()
        if self.spike_flips == 0:
            return f"EQUIVALENT: {self.spikes_compared:,} spikes compared, 0 flips"
        return (
            f"EQUIVALENT up to rounding: {self.spike_flips} of {self.spikes_compared:,} spikes differ, all behind "
            f"{self.knife_edge_decisions} knife-edge decision(s) whose margin is below the rounding error"
        )

    def _measured_verdict(self) -> str:
        """What was proven, and what rounding changed."""
        kept = [comparison for comparison in self.comparisons if comparison.rule != "measured"]
        compared, flips = (sum(getattr(c, what) for c in kept) for what in ("spikes_compared", "spike_flips"))
        (rounded,) = (comparison for comparison in self.comparisons if comparison.rule == "measured")
        cost = f"{rounded.spike_flips:,} of {rounded.spikes_compared:,} spikes"
        share = rounded.spike_flips / max(1, rounded.spikes_compared)
        rounding = f"rounding to integers changed {cost} ({share:.3%})"
        return (
            f"EQUIVALENT: {compared:,} spikes compared, {flips} flips; {rounding}" if kept else f"MEASURED: {rounding}"
        )

    def _reason(self) -> str:
        failures = [failure for comparison in self.comparisons for failure in comparison.failures]
        unexplained = [decision for comparison in self.comparisons for decision in comparison.unexplained]
        if unexplained:
            d = unexplained[0]
            where = f"layer {d.layer!r}, step {d.t}, sample {d.sample}, neuron {d.neuron}"
            failures.append(
                f"{len(unexplained)} decision(s) that rounding cannot explain, first at {where} "
                f"(margin {d.margin:.3g}, rounding bound {d.bound:.3g})"
            )
        for comparison in self.comparisons:
            if comparison.rule == "exact" and not comparison.failures and not comparison.ok:
                failures.append(_not_repeated(comparison))
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        return "; ".join(failures[-_SHOWN:]) + more if failures else "nothing was compared"


_RULES: dict[Rule, str] = {"judged": "", "measured": " (measured)", "exact": " (number for number)"}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _not_repeated(comparison: Comparison) -> str:
    said = (
        f"{comparison.second} does not repeat the {comparison.first}: {comparison.spike_flips:,} of "
        f"{comparison.spikes_compared:,} spikes differ, outputs by up to {comparison.max_abs_error:.3g}"
    )
    d = comparison.first_divergence
    return (
        said if d is None else f"{said}, first at layer {d.layer!r}, step {d.t}, sample {d.sample}, neuron {d.neuron}"
    )


def _decision_dict(decision: Decision) -> dict[str, Any]:
    return decision._asdict() | {"margin": _number(decision.margin), "bound": _number(decision.bound)}


def _comparison_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.first,
        "second": comparison.second,
        "ok": comparison.ok,
        "rule": comparison.rule,
        "max_abs_error": _number(comparison.max_abs_error),
        "failures": list(comparison.failures),
        "layers": [asdict(layer) for layer in comparison.layers],
        "disputed": [
            _decision_dict(decision) | {"knife_edge": decision.knife_edge} for decision in comparison.disputed
        ],
    }


def _comparison_text(comparison: Comparison) -> str:
    rows = [("layer", "spikes compared", "flips", "firing rate", "max |dV|")]
    for layer in comparison.layers:
        error = "-" if layer.max_potential_error is None else f"{layer.max_potential_error:.2e}"
        row = (layer.name, f"{layer.spikes_compared:,}", f"{layer.spike_flips:,}", f"{layer.firing_rate:.3f}", error)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    title = (
        f"{comparison.first} vs {comparison.second}{_RULES[comparison.rule]}: max |dy| {comparison.max_abs_error:.2e}"
    )
    return "\n".join([title, *(f"  {line}" for line in lines)])
