"""Why the verdict is what it is: what was looked at, and what was found there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from psu_deploy.report.collected import Collected
from psu_deploy.report.words import called, multiple, percent, place, several
from psu_deploy.verify import Comparison, EquivalenceReport

_SHOWN = 3
"""Of what speaks against a file or a run, and of layers in a sentence."""


class Reason(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: in a word or two.
        found: there, as the rest of a sentence.
    """

    what: str
    found: str


def reasons(report: EquivalenceReport, collected: Collected) -> Iterator[Reason]:
    """What the file holds, what it does, how sure that is, and what was not tried."""
    yield from (Reason("The file", found) for found in _file(report))
    yield from (Reason("The runs", found) for found in _runs(report, collected))
    yield from (Reason("How sure", found) for found in _certified(report, collected))
    yield from (Reason("Left open", f"{reason}.") for reason in report.unproven)
    yield from (Reason("The outputs", found) for found in _outputs(report))
    yield from (Reason("Not tried", found) for found in _unexercised(report))


def _file(report: EquivalenceReport) -> Iterator[str]:
    if report.structure is None:
        return
    if report.structure.unchecked:
        yield f"was judged by what it does only: {report.structure.unchecked}."
    elif report.differences:
        yield from (f"{difference}." for difference in report.differences[:_SHOWN])
    else:
        yield "holds every node and every number that exporting this network writes, and nothing else."


def _runs(report: EquivalenceReport, collected: Collected) -> Iterator[str]:
    steps, samples = collected.x.shape[:2]
    tried = f"{several(samples, 'sample')} of {several(steps, 'step')}"
    for comparison in report.comparisons:
        pair = f"{called(comparison.first)} and {called(comparison.second)}"
        if comparison.layers:
            yield f"{pair}, side by side on {tried}: {_spikes(comparison)}."
        if comparison.rule == "exact" and comparison.ok:
            yield f"{comparison.second} repeats every number of {called(comparison.first)}."
        yield from (f"{failure}." for failure in comparison.failures[:_SHOWN])
    yield from (f"{note}." for note in report.notes if note.startswith("it does not run"))


def _spikes(comparison: Comparison) -> str:
    if not comparison.spike_flips:
        return f"{comparison.spikes_compared:,} spikes compared, none differs"
    found = f"{comparison.spike_flips:,} of {comparison.spikes_compared:,} spikes differ"
    wrong = len(comparison.unexplained)
    return f"{found}; {wrong:,} decisions no rounding explains" if wrong else found


def _certified(report: EquivalenceReport, collected: Collected) -> Iterator[str]:
    """Nothing where something is wrong: then it is not rounding that matters."""
    decisions = sum(margins.decisions for margins in collected.margins.values())
    if not decisions or report.status == "NOT EQUIVALENT":
        return
    sure = sum(margins.certified for margins in collected.margins.values())
    far = "further from their threshold than rounding can move them, in any order of the sums"
    if sure == decisions:
        yield f"all {decisions:,} decisions are {far}. {_closest_call(collected)}"
        return
    yield f"{percent(sure, decisions)} of {decisions:,} decisions are {far}. {_closest_call(collected)}"
    if not report.spike_flips:
        other = "an engine that sums in another order may decide otherwise, by right; in these runs none did"
        yield f"for the other {decisions - sure:,}, {other}."


def _closest_call(collected: Collected) -> str:
    found = ((name, one.closest) for name, one in collected.margins.items() if one.closest is not None)
    layer, nearest = min(found, key=lambda one: one[1].times)
    return (
        f"The closest call is in layer {layer!r} at {place(nearest)}: its margin is {multiple(nearest.times)} what "
        "rounding can do."
    )


def _outputs(report: EquivalenceReport) -> Iterator[str]:
    if not math.isfinite(report.max_abs_error):
        return
    given, changed = report.answers
    answers = f", and {changed:,} of {given:,} answers (the largest output of the last step) change" if given else ""
    yield f"differ by up to {report.max_abs_error:.3g}{answers}."


def _unexercised(report: EquivalenceReport) -> Iterator[str]:
    if report.unexercised and not report.nothing_fired:
        yield f"{untried(report)}: of these, little more than what the file holds is known."


def untried(report: EquivalenceReport) -> str:
    """The layers in which no decision was tried both ways."""
    layers = report.comparisons[0].layers
    silent = [repr(layer.name) for layer in layers if layer.never_fired]
    busy = [repr(layer.name) for layer in layers if layer.always_fired]
    found = ((silent, "never fired"), (busy, "fired at every step"))
    return " and ".join(f"layer{'s' * (len(names) > 1)} {_some(names)} {said}" for names, said in found if names)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
