"""The findings in one sentence, for whoever has to decide: deploy it or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from psu_deploy.report.collected import Collected
from psu_deploy.report.reasons import Reason, reasons, untried
from psu_deploy.report.words import called, multiple, place
from psu_deploy.verify import Decision, EquivalenceReport

Kind = Literal["safe", "measured", "unproven", "unsafe"]

_WORDS: dict[Kind, str] = {
    "safe": "Safe to deploy",
    "measured": "Deploy if this rounding is acceptable",
    "unproven": "Not proven",
    "unsafe": "Do not deploy",
}


@dataclass(frozen=True)
class Conclusion:
    """What the page begins with.

    Attributes:
        kind: which of the four verdicts.
        words: it, in a few words.
        sentence: it, in one sentence.
        reasons: what was looked at, and what was found.
        verdict: the sentence that the command line prints.
    """

    kind: Kind
    words: str
    sentence: str
    reasons: tuple[Reason, ...]
    verdict: str


def conclusion(report: EquivalenceReport, collected: Collected) -> Conclusion:
    """What a report comes to."""
    name = "the other machine" if collected.artifact is None else str(collected.artifact.path)
    kind = _kind(report)
    sentence = {"safe": _safe, "measured": _measured, "unproven": _unproven, "unsafe": _unsafe}[kind](report, name)
    words = f"{_WORDS[kind]} as far as it was tried" if kind == "safe" and _partly(report) else _WORDS[kind]
    return Conclusion(kind, words, sentence, tuple(reasons(report, collected)), report.verdict)


def _partly(report: EquivalenceReport) -> bool:
    """Whether there is something that no run tried, or that was not looked at in the file."""
    return bool(report.unexercised or (report.structure is not None and report.structure.unchecked))


def _kind(report: EquivalenceReport) -> Kind:
    if report.status == "NOT EQUIVALENT":
        return "unsafe"
    if report.status == "NOT PROVEN":
        return "unproven"
    return "measured" if any(comparison.measured for comparison in report.comparisons) else "safe"


def _safe(report: EquivalenceReport, name: str) -> str:
    first = called(report.comparisons[0].first)
    if not report.spikes_compared:
        return f"{name} gives the same outputs as {first}, up to rounding; there is no neuron in the network."
    if report.nothing_fired:
        return f"{name} is as silent as {first}: nothing fired in {report.spikes_compared:,} decisions, as was allowed."
    if not report.spike_flips:
        but = f", but {untried(report)}" if report.unexercised else ""
        return f"{name} gives the same spikes as {first}: {report.spikes_compared:,} compared, none differs{but}."
    given, changed = report.answers
    answers = f" and {changed:,} of {given:,} answers" if given else ""
    return (
        f"{name} and {first} differ in {report.spike_flips:,} of {report.spikes_compared:,} spikes{answers}, all of it "
        "behind decisions too close for floating point to tell: either is right."
    )


def _measured(report: EquivalenceReport, name: str) -> str:
    (rounded,) = (comparison for comparison in report.comparisons if comparison.measured)
    share = rounded.spike_flips / max(1, rounded.spikes_compared)
    what = "the weights" if rounded.rule == "rounded" else "to integers"
    given, changed = rounded.answers
    answers = f" and {changed:,} of {given:,} answers" if given else ""
    rest = "" if len(report.comparisons) == 1 else "; apart from that, it runs exactly the rounded network"
    return (
        f"{name} is not the same network: rounding {what} changed {rounded.spike_flips:,} of "
        f"{rounded.spikes_compared:,} spikes ({share:.3%}){answers}{rest}."
    )


def _unproven(report: EquivalenceReport, name: str) -> str:
    return f"Nothing wrong was found in {name}, but nothing is shown either: {report.unproven[0]}."


def _unsafe(report: EquivalenceReport, name: str) -> str:
    found = _wrong_spike(report)
    if not found:
        found = (_changed(report) or next(_failed(report), "") or "nothing was compared") + _parting(report)
    return f"{name} is not this network: {found}."


def _parting(report: EquivalenceReport) -> str:
    """Where the runs part first, if they do."""
    for comparison in report.comparisons:
        first = comparison.first_divergence
        if first is not None and not comparison.measured:
            return f"; the first spike to differ is in layer {first.layer!r} at {place(first)}"
    return ""


def _wrong_spike(report: EquivalenceReport) -> str:
    """The earliest decision that no rounding explains, in words; "" = there is none."""
    unexplained = [decision for comparison in report.comparisons for decision in comparison.unexplained]
    if not unexplained:
        return ""
    first = min(unexplained, key=lambda decision: decision.t)
    many = f"{len(unexplained):,} spikes are wrong, the first" if len(unexplained) > 1 else "a spike is wrong,"
    return f"{many} in layer {first.layer!r} at {place(first)}, where the margin is {_beyond(first)}"


def _beyond(decision: Decision) -> str:
    times = abs(decision.margin) / decision.bound if decision.bound else math.inf
    return f"{decision.margin:.3g}, {multiple(times)} what rounding can explain"


def _failed(report: EquivalenceReport) -> Iterator[str]:
    for comparison in report.comparisons:
        yield from comparison.failures
        if comparison.rule == "exact" and not comparison.ok and not comparison.failures:
            yield f"{comparison.second} does not repeat the {comparison.first}, number for number"


def _changed(report: EquivalenceReport) -> str:
    if not report.differences:
        return ""
    more = f" (and {len(report.differences) - 1} more)" if len(report.differences) > 1 else ""
    return f"the file holds something else than an export of it: {report.differences[0]}{more}"
