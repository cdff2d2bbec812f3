"""Makes a failing case small: greedily, as long as it fails alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from psu_deploy.fuzz.case import Case
from psu_deploy.fuzz.outcome import Outcome
from psu_deploy.fuzz.simpler import simpler_entries, simpler_numbers
from psu_deploy.fuzz.smaller import fewer_features, fewer_layers, fewer_samples, fewer_steps, plainer

Try = Callable[[Case], Outcome]

PASSES: tuple[Callable[[Case], Iterator[Case]], ...] = (
    fewer_layers,
    fewer_samples,
    fewer_steps,
    plainer,
    fewer_features,
    simpler_numbers,
    simpler_entries,
)
"""case -> cases that are smaller or simpler, the smallest first. What each of them gives comes to an end."""


def reduced(case: Case, outcome: Outcome, attempt: Try, seconds: float) -> tuple[Case, Outcome]:
    """The smallest case that was found in time, and what comes of it; the case itself where nothing smaller fails.

    Args:
        case: fails.
        outcome: of it; a smaller case has to fail in the same kind.
        attempt: tries a case.
        seconds: to spend.
    """
    until, found, changed = time.monotonic() + seconds, (case, outcome), True
    while changed:
        changed = False
        for smaller in PASSES:
            while (better := _first(smaller(found[0]), outcome.kind, attempt, until)) is not None:
                found, changed = better, True
        if time.monotonic() > until:
            break
    return found


def _first(cases: Iterator[Case], kind: str, attempt: Try, until: float) -> tuple[Case, Outcome] | None:
    """The first case that fails alike."""
    for case in cases:
        if time.monotonic() > until:
            return None
        outcome = attempt(case)
        if outcome.status == "failed" and outcome.kind == kind:
            return case, outcome
    return None
