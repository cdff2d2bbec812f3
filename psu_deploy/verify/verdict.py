"""The one sentence that a report comes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from psu_deploy.verify.comparison import Comparison

if TYPE_CHECKING:
    from psu_deploy.verify.report import EquivalenceReport

_SHOWN = 3
"""Reasons in the sentence; the others stand in the table and the JSON."""


def verdict_of(report: EquivalenceReport) -> str:
    """EQUIVALENT, MEASURED, NOT PROVEN or NOT EQUIVALENT, and why."""
    if report.status == "NOT EQUIVALENT":
        return f"NOT EQUIVALENT: {_shortened(list(_failures(report)) or ['nothing was compared'])}"
    if report.status == "NOT PROVEN":
        return f"NOT PROVEN: {_shortened(list(report.unproven))}"
    return "; ".join([_equivalent(report), *_unexercised(report)])


def _equivalent(report: EquivalenceReport) -> str:
    tried = " on what was exercised" if report.unexercised else ""
    unchecked = "" if report.structure is None else report.structure.unchecked
    limit = f" (behaviour only: {unchecked})" if unchecked else ""
    if any(comparison.rule == "measured" for comparison in report.comparisons):
        return _measured(report, tried)
    if report.spike_flips == 0:
        return f"EQUIVALENT{tried}{limit}: {report.spikes_compared:,} spikes compared, 0 flips"
    differ = f"{report.spike_flips:,} of {report.spikes_compared:,} spikes differ"
    return (
        f"EQUIVALENT up to rounding{tried}{limit}: {differ}, all behind {report.knife_edge_decisions:,} knife-edge "
        f"decision(s) whose margin is below the rounding error; outputs differ by up to {report.max_abs_error:.3g}"
        f"{_changed_answers(report)}"
    )


def _changed_answers(report: EquivalenceReport) -> str:
    given, changed = report.answers
    return f", {changed:,} of {given:,} answers of the readout changed" if given else ""


def _measured(report: EquivalenceReport, tried: str) -> str:
    """What was proven, and what rounding changed."""
    kept = [comparison for comparison in report.comparisons if comparison.rule != "measured"]
    compared, flips = (sum(getattr(c, what) for c in kept) for what in ("spikes_compared", "spike_flips"))
    (rounded,) = (comparison for comparison in report.comparisons if comparison.rule == "measured")
    cost = f"{rounded.spike_flips:,} of {rounded.spikes_compared:,} spikes"
    share = rounded.spike_flips / max(1, rounded.spikes_compared)
    rounding = f"rounding to integers changed {cost} ({share:.3%})"
    if not kept:
        return f"MEASURED{tried}: {rounding}"
    return f"EQUIVALENT{tried}: {compared:,} spikes compared, {flips} flips; {rounding}"


def _unexercised(report: EquivalenceReport) -> Iterator[str]:
    """Layers that never fired, and layers that always did."""
    layers = report.comparisons[0].layers
    silent = [repr(layer.name) for layer in layers if layer.never_fired]
    busy = [repr(layer.name) for layer in layers if layer.always_fired]
    for names, said in ((silent, "never fired"), (busy, "fired at every step")):
        if names:
            yield f"layer{'s' if len(names) > 1 else ''} {', '.join(names)} {said}"


def _failures(report: EquivalenceReport) -> Iterator[str]:
    """Everything that speaks against it: what the file holds first, then what it does."""
    yield from report.differences[:1]
    if len(report.differences) > 1:
        yield f"{len(report.differences) - 1} more difference(s) like this"
    unexplained = [decision for comparison in report.comparisons for decision in comparison.unexplained]
    if unexplained:
        d = unexplained[0]
        yield (
            f"{len(unexplained):,} decision(s) that rounding cannot explain, first at layer {d.layer!r}, step {d.t}, "
            f"sample {d.sample}, neuron {d.neuron} (margin {d.margin:.3g}, rounding bound {d.bound:.3g})"
        )
    for comparison in report.comparisons:
        if comparison.rule == "exact" and not comparison.failures and not comparison.ok:
            yield _not_repeated(comparison)
    yield from (failure for comparison in report.comparisons for failure in comparison.failures)


def _not_repeated(comparison: Comparison) -> str:
    said = (
        f"{comparison.second} does not repeat the {comparison.first}: {comparison.spike_flips:,} of "
        f"{comparison.spikes_compared:,} spikes differ, outputs by up to {comparison.max_abs_error:.3g}"
    )
    d = comparison.first_divergence
    return (
        said if d is None else f"{said}, first at layer {d.layer!r}, step {d.t}, sample {d.sample}, neuron {d.neuron}"
    )


def _shortened(reasons: list[str]) -> str:
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return "; ".join(reasons[:_SHOWN]) + more
