"""psu-deploy certify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psu_deploy.cli.assignments import TaskFile, import_tasks
from psu_deploy.cli.console import hint, progress, say, tell
from psu_deploy.cli.sources import (
    MACHINE_FILE,
    Floats,
    check_free,
    decisions_per_step,
    open_source,
    random_spikes,
    read_array,
)
from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.verify.portable import certify as certify_inputs

_CASES = 16

_MOST_DECISIONS = 20_000_000
"""Of a run's test data; each takes about 50 bytes."""


def certify(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    data: Annotated[
        Path | None,
        typer.Argument(help="(T, B, ...) as .npy; default: a run's test data, or random spikes."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the certificate as JSON.")] = None,
    cases: Annotated[int, typer.Option(help="Into how many cases a sample's knife edges may be taken apart.")] = _CASES,
    at_least: Annotated[
        float, typer.Option("--at-least", help="Share of certified decisions below which the exit code is 1.")
    ] = 1.0,
    steps: Annotated[int | None, typer.Option(help="Steps of random input; default: horizon or 32.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples of random input; default: 8, fewer for a large network.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random input.")] = 0,
    task_file: TaskFile = None,
) -> None:
    """Prove which spikes every IEEE-754 binary32 runtime gives on some inputs: whatever the order of its sums, fused or
    not. Exit code 1 if fewer decisions are certain than asked for.

    Example: psu-deploy certify model.psm inputs.npy --out certificate.json

    Example: psu-deploy certify runs/digits --out certificate.json --at-least 0.999

    The certificate can be checked without psu-deploy: examples/check_certificate.py reads the machine, the inputs and
    the certificate, with numpy alone.
    """
    import_tasks(task_file)
    _check(out, source, data, cases, at_least)
    if data is not None and (steps is not None or batch is not None):
        raise InputError(f"--steps and --batch are for random input, and {data} is given")
    with progress() as bar:
        bar.add_task("certifying every decision", total=None)
        network = open_source(source)
        if data is not None:
            x = read_array(data)
        elif network.data is not None:
            x = _some(network.machine, network.data)
        else:
            x = random_spikes(network.machine, steps, batch, seed)
        certificate = certify_inputs(network.machine, x, cases=cases)
    if out is not None:
        certificate.save(out)
    say(certificate)
    if out is not None and data is not None:
        hint("python", "examples/check_certificate.py", _machine_file(source), data, out)
    if certificate.certified_share < at_least:
        raise typer.Exit(1)


def _some(machine: StateMachine, data: Floats) -> Floats:
    """As many of a run's samples as there is memory for."""
    samples = max(1, _MOST_DECISIONS // (len(data) * max(1, decisions_per_step(machine))))
    if samples < data.shape[1]:
        tell(f"certifying the first {samples} of {data.shape[1]} samples; name a .npy file for others")
    return data[:, :samples]


def _machine_file(source: Path) -> Path:
    return source / MACHINE_FILE if source.is_dir() else source


def _check(out: Path | None, source: Path, data: Path | None, cases: int, at_least: float) -> None:
    """Refuse, before minutes are spent, what cannot be meant."""
    if cases < 1:
        raise InputError(f"--cases must be at least 1, got {cases}")
    if not 0 <= at_least <= 1:
        raise InputError(f"--at-least is a share, from 0 to 1, got {at_least}")
    if out is not None:
        if out.is_dir():
            raise InputError(f"cannot write {out}: it is a folder; name a file in it")
        check_free("--out", out, source, *(() if data is None else (data,)))
