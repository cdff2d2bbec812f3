"""Judges a case: export, load, run; by `verify`, by float64 beside it, and by stopping in the middle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from psu_deploy import api
from psu_deploy.errors import InputError, MissingExtraError, PsuDeployError, StateError, UnsupportedModelError
from psu_deploy.exporters import target_named
from psu_deploy.exporters.integers.runner import IntegerRunner
from psu_deploy.fuzz.case import Case
from psu_deploy.fuzz.options import CALIBRATION
from psu_deploy.fuzz.oracle import fed, judged, repeated
from psu_deploy.fuzz.outcome import Outcome
from psu_deploy.fuzz.resuming import broken_off
from psu_deploy.runtime import Runner

_REFUSALS = (UnsupportedModelError, InputError, MissingExtraError)
"""How a target says, in a sentence, that it does not take a network or an input, or that its engine is not there."""


def judge(case: Case, folder: Path) -> Outcome:
    """What comes of a case.

    Args:
        case: to be tried.
        folder: where its file is written.
    """
    try:
        return _judge(case, folder)
    except _REFUSALS as error:
        return Outcome("refused", _reason(error), str(error))
    except Exception as error:  # noqa: BLE001  whatever a target dies of is what is looked for
        return Outcome("failed", f"raised {type(error).__name__}", str(error) or "without a word")


def _judge(case: Case, folder: Path) -> Outcome:
    path = folder / f"net{target_named(case.target).suffix}"
    artifact = api.export(case.machine, path, target=case.target, **_arrays(case, case.options.export))
    runner = api.load(artifact, **_arrays(case, case.options.load))
    if not runner.rounds and _overflows(case):
        return _overflowing(case, runner)
    report = api.verify(case.machine, runner, case.x, allow_silent=True)
    found = repeated(case, runner) if isinstance(runner, IntegerRunner) else judged(case, runner)
    if found.kind:
        return Outcome("failed", found.kind, report.verdict, found.differences, found.spikes)
    if report.status == "NOT EQUIVALENT":
        return Outcome("failed", "verify says no", report.verdict, report.differences, found.spikes)
    broken = broken_off(case, runner)
    if broken:
        return Outcome("failed", "stopped and taken up", broken[0], broken, found.spikes)
    if report.ok:
        return Outcome("ok", spikes=found.spikes, knife_edges=found.knife_edges)
    return Outcome("unproven", "", report.verdict, (), found.spikes, found.knife_edges)


def _arrays(case: Case, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the input as calibration, where they ask for it."""
    return {**options, CALIBRATION: case.x} if options.get(CALIBRATION) else dict(options)


def _overflows(case: Case) -> bool:
    """Whether float32 cannot hold what the machine makes of this input."""
    try:
        case.machine.trace(fed(case), case.state)
    except StateError:
        return True
    return False


def _overflowing(case: Case, runner: Runner) -> Outcome:
    """A target must say so too."""
    try:
        runner.trace(fed(case)) if case.state is None else runner.trace(fed(case), case.state)
    except StateError as error:
        return Outcome("refused", "the numbers overflow on this input, and the target says so", str(error))
    return Outcome("failed", "overflow unsaid", "numbers overflow in the machine, and the target says nothing")


def _reason(error: PsuDeployError) -> str:
    """The first thing that stands in the way, without the numbers in it."""
    if isinstance(error, UnsupportedModelError) and error.problems:
        first = error.problems[0]
        said = f"{first.kind}: {first.reason}"
    else:
        said = str(error).partition(";")[0]
    return re.sub(r"-?\d[\d.,]*(e[-+]?\d+)?", "#", said)[:160]
