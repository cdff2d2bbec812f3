"""Case after case until the time is up; what fails is made small and kept."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from psu_deploy.exporters import exporter
from psu_deploy.files.atomic import write_whole
from psu_deploy.fuzz.case import Case, drawn_case, load_case, save_case
from psu_deploy.fuzz.child import Child
from psu_deploy.fuzz.journal import NAME, Entry, Journal
from psu_deploy.fuzz.outcome import Outcome
from psu_deploy.fuzz.reduce import reduced

TO_REDUCE = 60.0
"""Seconds for one failure."""


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Args:
        targets: names, each of which tries every network.
        folder: of the journal, and of what failed.
        seconds: after which no case begins any more.
        most: networks to try, those of earlier runs included; None = as many as there is time for.
        seed: of all networks; None = that of the folder, or 0.
        only: the number of one network, which is tried again and not written down; None = all.
        timeout: seconds that a case may take.
        to_reduce: seconds to make one failure small.
    """

    targets: tuple[str, ...]
    folder: Path
    seconds: float
    most: int | None = None
    seed: int | None = None
    only: int | None = None
    timeout: float = 120.0
    to_reduce: float = TO_REDUCE


def fuzz(plan: Plan) -> Iterator[Entry]:
    """Try random networks, and give what came of each; first what earlier runs in the same folder found.

    Raises:
        InputError: if there is no such target, or the folder holds other cases.
        MissingExtraError: if what a target needs is not installed.
        ArtifactError: if the journal is damaged.
    """
    for target in plan.targets:
        exporter(target)
    until = time.monotonic() + plan.seconds
    if plan.only is not None:
        yield from _alone(plan, plan.only)
        return
    journal = Journal(plan.folder, plan.seed)
    yield from journal.entries
    with TemporaryDirectory(prefix="psu-deploy-fuzz-") as scratch, Child(Path(scratch), plan.timeout) as child:
        for number, target in _left(plan, journal):
            if time.monotonic() > until:
                return
            entry = _tried(plan, journal.seed, number, target, child, Path(scratch))
            journal.add(entry)
            yield entry


def _alone(plan: Plan, number: int) -> Iterator[Entry]:
    """One network on every target, not written down; its seed is that of the folder where none is given."""
    there = (plan.folder / NAME).exists()
    seed = Journal(plan.folder, None).seed if plan.seed is None and there else plan.seed or 0
    with TemporaryDirectory(prefix="psu-deploy-fuzz-") as scratch, Child(Path(scratch), plan.timeout) as child:
        for target in plan.targets:
            yield _tried(plan, seed, number, target, child, Path(scratch))


def _tried(plan: Plan, seed: int, number: int, target: str, child: Child, scratch: Path) -> Entry:
    """One case; what fails is made small and kept."""
    began = time.monotonic()
    outcome = child.ask({"seed": seed, "number": number, "target": target})
    if outcome.status == "failed":
        outcome = _keep(plan, drawn_case(seed, number, target), outcome, child, scratch)
    return Entry(number, target, outcome, time.monotonic() - began)


def repeat(path: Path, timeout: float) -> Outcome:
    """Try a case that was kept once more.

    Raises:
        ArtifactError: if it is none.
    """
    load_case(path)
    with TemporaryDirectory(prefix="psu-deploy-fuzz-") as scratch, Child(Path(scratch), timeout) as child:
        return child.ask({"case": str(path)})


def _left(plan: Plan, journal: Journal) -> Iterator[tuple[int, str]]:
    """Number and target of every case that was not tried."""
    done = {(entry.number, entry.target) for entry in journal.entries}
    for number in count() if plan.most is None else range(plan.most):
        yield from ((number, target) for target in plan.targets if (number, target) not in done)


def _keep(plan: Plan, case: Case, outcome: Outcome, child: Child, scratch: Path) -> Outcome:
    """Make a failure small and save it, with the command that repeats it."""

    def attempt(smaller: Case) -> Outcome:
        path = scratch / "smaller.psm"
        save_case(smaller, path)
        return child.ask({"case": str(path)})

    small, found = reduced(case, outcome, attempt, plan.to_reduce)
    path = plan.folder / f"case-{case.name}.psm"
    save_case(small, path)
    write_whole(path.with_suffix(".txt"), _page(path, case, small, found).encode())
    return found


def _page(path: Path, case: Case, small: Case, outcome: Outcome) -> str:
    seed, number, target = case.name.split("-", 2)
    again = shlex.join(["psu-deploy", "fuzz", "--repeat", str(path)])
    options = json.dumps(small.options._asdict())
    return "\n".join(
        [
            f"{small.target}: {outcome.kind}",
            "",
            outcome.reason,
            *(f"  {difference}" for difference in outcome.differences),
            "",
            f"input {small.x.shape}, started {'from a state' if small.state else 'as a network starts'}, {options}",
            "",
            small.machine.summary(),
            "",
            f"again: {again}",
            f"whole: psu-deploy fuzz --seed {seed} --case {number} --targets {target}",
            "",
        ]
    )
