"""Findings as a table for people and as JSON for machines."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from psu_deploy.text import columns
from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.comparison import Comparison, Rule
from psu_deploy.verify.findings import Findings
from psu_deploy.verify.verdict import verdict_of

_RULES: dict[Rule, str] = {
    "judged": "",
    "measured": " (measured)",
    "rounded": " (measured)",
    "exact": " (number for number)",
}


def as_text(findings: Findings) -> str:
    """A table per comparison, notes, and the verdict last."""
    parts = [_comparison_text(comparison) for comparison in findings.comparisons]
    differences = [f"the file: {difference}" for difference in findings.differences]
    notes = [f"note: {note}" for note in findings.notes]
    return "\n\n".join([*parts, *differences, *notes, verdict_of(findings)])


def as_data(findings: Findings) -> dict[str, Any]:
    """Everything as plain data."""
    divergence = findings.first_divergence
    return {
        "ok": findings.ok,
        "status": findings.status,
        "verdict": verdict_of(findings),
        "spikes_compared": findings.spikes_compared,
        "spike_flips": findings.spike_flips,
        "knife_edge_decisions": findings.knife_edge_decisions,
        "max_abs_error": _number(findings.max_abs_error),
        "answers": findings.answers._asdict(),
        "unexercised": list(findings.unexercised),
        "unproven": list(findings.unproven),
        "first_divergence": None if divergence is None else _decision(divergence),
        "structure": None if findings.structure is None else asdict(findings.structure),
        "notes": list(findings.notes),
        "comparisons": [_comparison(comparison) for comparison in findings.comparisons],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.first,
        "second": comparison.second,
        "ok": comparison.ok,
        "rule": comparison.rule,
        "max_abs_error": _number(comparison.max_abs_error),
        "answers": comparison.answers._asdict(),
        "open_outputs": comparison.open_outputs,
        "ties": [ties._asdict() for ties in comparison.ties],
        "failures": list(comparison.failures),
        "layers": [asdict(layer) for layer in comparison.layers],
        "disputed": [_decision(decision) | {"knife_edge": decision.knife_edge} for decision in comparison.disputed],
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return decision._asdict() | {"margin": _number(decision.margin), "bound": _number(decision.bound)}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _comparison_text(comparison: Comparison) -> str:
    rows = [("layer", "spikes compared", "flips", "firing rate", "max |dV|")]
    for layer in comparison.layers:
        error = "-" if layer.max_potential_error is None else f"{layer.max_potential_error:.2e}"
        row = (layer.name, f"{layer.spikes_compared:,}", f"{layer.spike_flips:,}", f"{layer.firing_rate:.3f}", error)
        rows.append(row)
    title = (
        f"{comparison.first} vs {comparison.second}{_RULES[comparison.rule]}: max |dy| {comparison.max_abs_error:.2e}"
    )
    return "\n".join([title, *(f"  {line}" for line in columns(rows, left=1))])
