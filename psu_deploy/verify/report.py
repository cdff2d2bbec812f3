"""What a verification found: plain data, a table for people, JSON for machines."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from psu_deploy.machine.files import atomic_path
from psu_deploy.verify.certificate import Decision

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
    """

    first: str
    second: str
    layers: tuple[LayerComparison, ...]
    disputed: tuple[Decision, ...]
    max_abs_error: float
    failures: tuple[str, ...]
    first_divergence: Decision | None

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
        """No failure, and rounding alone explains every flip."""
        return not self.failures and not self.unexplained


@dataclass(frozen=True)
class EquivalenceReport:
    """What `verify` found.

    `ok` is true if nothing is missing or NaN, every output is within its rounding bound, and every flip goes back to a
    knife-edge decision: one whose margin is smaller than the rounding error. Flips are always counted and shown.

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
            "first_divergence": None if self.first_divergence is None else self.first_divergence._asdict(),
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
        if self.spike_flips == 0:
            return f"EQUIVALENT: {self.spikes_compared:,} spikes compared, 0 flips"
        return (
            f"EQUIVALENT up to rounding: {self.spike_flips} of {self.spikes_compared:,} spikes differ, all behind "
            f"{self.knife_edge_decisions} knife-edge decision(s) whose margin is below the rounding error"
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
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        return "; ".join(failures[-_SHOWN:]) + more if failures else "nothing was compared"


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _comparison_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.first,
        "second": comparison.second,
        "ok": comparison.ok,
        "max_abs_error": _number(comparison.max_abs_error),
        "failures": list(comparison.failures),
        "layers": [asdict(layer) for layer in comparison.layers],
        "disputed": [decision._asdict() | {"knife_edge": decision.knife_edge} for decision in comparison.disputed],
    }


def _comparison_text(comparison: Comparison) -> str:
    rows = [("layer", "spikes compared", "flips", "firing rate", "max |dV|")]
    for layer in comparison.layers:
        error = "-" if layer.max_potential_error is None else f"{layer.max_potential_error:.2e}"
        row = (layer.name, f"{layer.spikes_compared:,}", f"{layer.spike_flips:,}", f"{layer.firing_rate:.3f}", error)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    title = f"{comparison.first} vs {comparison.second}: max |dy| {comparison.max_abs_error:.2e}"
    return "\n".join([title, *(f"  {line}" for line in lines)])
