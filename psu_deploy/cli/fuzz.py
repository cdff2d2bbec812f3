"""psu-deploy fuzz."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from psu_deploy.cli.console import progress, say, say_json, table
from psu_deploy.cli.sources import MACHINE_SUFFIX
from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.exporters import EXPORTERS, all_targets
from psu_deploy.fuzz.case import load_case
from psu_deploy.fuzz.journal import Entry
from psu_deploy.fuzz.run import Plan
from psu_deploy.fuzz.run import fuzz as fuzz_cases
from psu_deploy.fuzz.run import repeat as repeat_case
from psu_deploy.fuzz.totals import COLUMNS, totals
from psu_deploy.text import did_you_mean

_REASONS = 8
"""Of refusals, that are shown."""


def fuzz(
    minutes: Annotated[float, typer.Option(help="Cases begin for so long.")] = 1.0,
    targets: Annotated[str, typer.Option(help="Comma-separated.")] = "onnx,c,nir,lava",
    out: Annotated[Path, typer.Option(help="Folder for the journal and for what fails; a run goes on there.")] = Path(
        "fuzz"
    ),
    seed: Annotated[int | None, typer.Option(help="Of all networks; default: that of the folder, or 0.")] = None,
    cases: Annotated[int | None, typer.Option(help="Networks at most.")] = None,
    case: Annotated[int | None, typer.Option(help="The number of one network, to be tried alone.")] = None,
    repeat: Annotated[
        Path | None, typer.Option(help="A case that failed (.psm): try it, and show what differs.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that a case may take.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Try random networks over the whole vocabulary on every target, each held against float64. Exit code 1 if one
    fails.

    What fails is made small and kept: network (.psm), input (.npz) and a page (.txt) with the command that repeats it.

    Example: psu-deploy fuzz --minutes 10 --targets onnx,c

    Example: psu-deploy fuzz --repeat fuzz/case-0-17-c.psm
    """
    if repeat is not None:
        _repeat(repeat, timeout)
        return
    plan = _plan(minutes, targets, out, seed, cases, case, timeout)
    entries: list[Entry] = []
    interrupted = False
    try:
        for entry in _watched(plan):
            entries.append(entry)
    except KeyboardInterrupt:
        interrupted = True
    _show(entries, plan, as_json)
    if interrupted:
        raise KeyboardInterrupt
    if any(entry.outcome.status == "failed" for entry in entries):
        raise typer.Exit(1)


def _plan(
    minutes: float,
    targets: str,
    out: Path,
    seed: int | None,
    cases: int | None,
    case: int | None,
    timeout: float,
) -> Plan:
    """What was asked for, checked."""
    names = tuple(dict.fromkeys(name.strip() for name in targets.split(",") if name.strip()))
    known = all_targets()
    for name in names:
        if name not in known:
            choice = f"choose from {', '.join(sorted(known))}"
            raise InputError(f"unknown target {name!r}{did_you_mean(name, known)}; {choice}")
    if not names:
        raise InputError(f"name at least one target: --targets {','.join(EXPORTERS)}")
    for flag, value in (("--minutes", minutes), ("--timeout", timeout)):
        if not 0 < value < float("inf"):
            raise InputError(f"{flag} must be a number above 0, got {value}")
    for flag, whole in (("--seed", seed), ("--cases", cases), ("--case", case)):
        if whole is not None and whole < 0:
            raise InputError(f"{flag} must be a whole number >= 0, got {whole}")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    return Plan(names, out, 60 * minutes, most=cases, seed=seed, only=case, timeout=timeout)


def _watched(plan: Plan) -> Iterator[Entry]:
    """Every case, with a line on how many there are."""
    failed: list[Entry] = []
    with progress() as bar:
        task = bar.add_task("starting", total=None)
        began = time.monotonic()
        for done, entry in enumerate(fuzz_cases(plan), 1):
            if entry.outcome.status == "failed":
                failed.append(entry)
            spent = time.monotonic() - began
            bar.update(task, description=f"{done:,} cases, {len(failed):,} failed, {spent / 60:.1f} min")
            yield entry


def _show(entries: Sequence[Entry], plan: Plan, as_json: bool) -> None:
    """For people a table, what failed, and why targets refused; or all of it for another program."""
    counted = totals(entries, plan.targets)
    failures = [
        (f"{entry.number}", entry.target, entry.outcome) for entry in entries if entry.outcome.status == "failed"
    ]
    if as_json:
        found = [{"case": number, "target": target, **outcome.to_dict()} for number, target, outcome in failures]
        say_json({"ok": not failures, "targets": [one.to_dict() for one in counted], "failures": found})
        return
    table(
        "random networks, held against float64",
        COLUMNS,
        [one.row() for one in counted],
    )
    for number, target, outcome in failures[:_REASONS]:
        say(f"network {number}, {target}: {outcome.kind}: {outcome.reason}")
    if failures:
        say(f"{len(failures):,} failed; made small in {plan.folder}")
    refused = Counter((one.target, reason) for one in counted for reason in one.refusals.elements())
    if refused:
        rows = [(f"{target}: {reason}", f"{count:,}") for (target, reason), count in refused.most_common(_REASONS)]
        table("why a target refused a network", ("reason", "cases"), rows)


def _repeat(path: Path, timeout: float) -> None:
    """One case alone, and what differs in it."""
    if path.suffix != MACHINE_SUFFIX:
        raise ArtifactError(f"{path} is no case of the fuzzer; name its saved machine ({MACHINE_SUFFIX})")
    case, outcome = load_case(path), repeat_case(path, timeout)
    say(case.machine.summary())
    say(f"{case.target}, input {case.x.shape}: {outcome.status}{outcome.kind and f', {outcome.kind}'}")
    for line in (outcome.reason, *outcome.differences):
        if line:
            say(line)
    if outcome.status == "failed":
        raise typer.Exit(1)
