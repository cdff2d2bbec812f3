"""The one sentence that findings come to."""

from __future__ import annotations

from collections.abc import Iterator

from psu_deploy.verify.comparison import Comparison
from psu_deploy.verify.findings import Findings

_ANOTHER = 10
"""Differences in a file from which on it is not an edited one but another one."""

_SHOWN = 3
"""Reasons in the sentence; the others stand in the table and the JSON."""


def verdict_of(findings: Findings) -> str:
    """EQUIVALENT, MEASURED, NOT PROVEN or NOT EQUIVALENT, and why."""
    if findings.status == "NOT EQUIVALENT":
        return f"NOT EQUIVALENT: {_shortened(list(_failures(findings)) or ['nothing was compared'])}"
    if findings.status == "NOT PROVEN":
        return f"NOT PROVEN: {_shortened(list(findings.unproven))}"
    return "; ".join([_equivalent(findings), *_unexercised(findings), *_tied(findings)])


def _equivalent(findings: Findings) -> str:
    tried = " on what was exercised" if findings.unexercised else ""
    unchecked = "" if findings.structure is None else findings.structure.unchecked
    limit = f" (behaviour only: {unchecked})" if unchecked else ""
    if any(comparison.measured for comparison in findings.comparisons):
        return _measured(findings, tried)
    if not findings.spikes_compared:
        return f"EQUIVALENT{limit}: there are no neurons, and the outputs agree within their rounding bounds"
    if findings.nothing_fired:
        return f"EQUIVALENT{limit} as far as silence tells: {findings.spikes_compared:,} decisions compared, 0 flips"
    if findings.spike_flips == 0:
        return f"EQUIVALENT{tried}{limit}: {findings.spikes_compared:,} spikes compared, 0 flips"
    differ = f"{findings.spike_flips:,} of {findings.spikes_compared:,} spikes differ"
    return (
        f"EQUIVALENT up to rounding{tried}{limit}: {differ}, all behind {findings.knife_edge_decisions:,} knife-edge "
        f"decision(s) whose margin is below the rounding error; outputs differ by up to {findings.max_abs_error:.3g}"
        f"{_changed_answers(findings)}"
    )


def _changed_answers(findings: Findings) -> str:
    given, changed = findings.answers
    return f", {changed:,} of {given:,} answers of the readout changed" if given else ""


def _measured(findings: Findings, tried: str) -> str:
    """What was proven, and what rounding changed."""
    kept = [comparison for comparison in findings.comparisons if not comparison.measured]
    compared, flips = (sum(getattr(c, what) for c in kept) for what in ("spikes_compared", "spike_flips"))
    (rounded,) = (comparison for comparison in findings.comparisons if comparison.measured)
    cost = f"{rounded.spike_flips:,} of {rounded.spikes_compared:,} spikes"
    share = rounded.spike_flips / max(1, rounded.spikes_compared)
    if rounded.rule == "rounded":  # what is proven, beside that, is that another network runs as it should
        changed = f"rounded weights changed {cost} ({share:.3%}) and outputs by up to {rounded.max_abs_error:.3g}"
        return f"MEASURED{tried}: {changed}; the file runs those weights: {compared:,} spikes compared, {flips} flips"
    rounding = f"rounding to integers changed {cost} ({share:.3%})"
    if not kept:
        return f"MEASURED{tried}: {rounding}"
    return f"EQUIVALENT{tried}: {compared:,} spikes compared, {flips} flips; {rounding}"


def _unexercised(findings: Findings) -> Iterator[str]:
    """Layers that never fired, and layers that always did."""
    layers = findings.comparisons[0].layers
    silent = [repr(layer.name) for layer in layers if layer.never_fired]
    busy = [repr(layer.name) for layer in layers if layer.always_fired]
    for names, said in ((silent, "never fired"), (busy, "fired at every step")):
        if names:
            yield f"layer{'s' if len(names) > 1 else ''} {', '.join(names)} {said}"


def _tied(findings: Findings) -> Iterator[str]:
    """Orders that are not certain: the runs may give others."""
    found = {ties.layer: ties.open for comparison in findings.comparisons for ties in comparison.ties}
    for layer, count in found.items():
        yield f"layer {layer!r} ranks numbers too close to tell in {count:,} place{'s' if count > 1 else ''}"


def _failures(findings: Findings) -> Iterator[str]:
    """Everything that speaks against it: what the file holds first, then what it does."""
    if len(findings.differences) > _ANOTHER:
        first = findings.differences[0]
        yield f"the file is of another network, it differs in {_ANOTHER} places and more, first: {first}"
    elif findings.differences:
        more = f", and {len(findings.differences) - 1} more" if len(findings.differences) > 1 else ""
        yield f"{findings.differences[0]}{more}"
    unexplained = [decision for comparison in findings.comparisons for decision in comparison.unexplained]
    if unexplained:
        d = min(unexplained, key=lambda decision: decision.t)  # of one step the first layer
        yield (
            f"{len(unexplained):,} decision(s) that rounding cannot explain, first at layer {d.layer!r}, step {d.t}, "
            f"sample {d.sample}, neuron {d.neuron} (margin {d.margin:.3g}, rounding bound {d.bound:.3g})"
        )
    for comparison in findings.comparisons:
        if comparison.rule == "exact" and not comparison.failures and not comparison.ok:
            yield _not_repeated(comparison)
    yield from (failure for comparison in findings.comparisons for failure in comparison.failures)


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
