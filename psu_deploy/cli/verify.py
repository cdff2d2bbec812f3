"""psu-deploy verify."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy import api
from psu_deploy.cli.assignments import TaskFile, import_tasks
from psu_deploy.cli.console import hint, progress, say, say_json, tell
from psu_deploy.cli.options import read_arrays
from psu_deploy.cli.sources import MACHINE_SUFFIX, check_free, open_source, random_spikes, read_array
from psu_deploy.errors import InputError
from psu_deploy.exporters import target_of
from psu_deploy.report import Evidence, write_report
from psu_deploy.report.page import check_installed
from psu_deploy.text import visible
from psu_deploy.verify import EquivalenceReport

STDOUT = Path("-")
"""As the name of a report."""

PAGES = (".html", ".htm")
"""Suffixes of a report for people."""


def verify(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    artifact: Annotated[Path, typer.Argument(help="What was exported from it.")],
    data: Annotated[
        Path | None,
        typer.Option(help="(T, B, ...) as .npy float32; default: a run's test data, or random spikes."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write the report: a page for people (report.html), else JSON; - is JSON on standard output."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of random input; default: horizon or 32.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples of random input; default: 8, fewer for a large network.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random input.")] = 0,
    allow_silent: Annotated[
        bool, typer.Option("--allow-silent", help="Call it equivalent although nothing in the network fires.")
    ] = False,
    task_file: TaskFile = None,
    **options: Any,
) -> None:
    """Hold an export against its network: every number in it first, then every form spike by spike. Exit code 1 if a
    number is another, if a spike differs that rounding does not explain, or if nothing is proven.

    With a run folder, three ways: the trained module in parallel, the serial machine, the artifact, on the test data.
    With a saved machine, two ways, on random spikes.

    Example: psu-deploy verify runs/digits out/model.onnx

    A .net file comes in twice: its integers against the machine, which measures what rounding changed, and Lava
    against its integers, which it must repeat.

    Example: psu-deploy verify model.psm out/model.nir --simulator norse

    Example: psu-deploy verify model.psm out/model.net --data x.npy

    Example: psu-deploy verify runs/digits out/model.onnx --report report.html
    """
    import_tasks(task_file)
    _check_report(report, source, artifact, data)
    if artifact.suffix == MACHINE_SUFFIX:
        raise InputError(f"{artifact} is a saved machine, not an export; first psu-deploy export {artifact} --out out/")
    with progress() as bar:
        task = bar.add_task("running every form of the network", total=None)
        network = open_source(source)
        if data is not None:
            x = read_array(data)
        elif network.data is not None:
            x = network.data
        else:
            x = random_spikes(network.machine, steps, batch, seed)
        runner = api.load(artifact, **read_arrays(options))
        model = network.machine if network.model is None else network.model

        def done(runs: int, total: int) -> None:
            bar.update(task, completed=runs, total=total)

        evidence = Evidence() if _is_page(report) else None
        result = api.verify(model, runner, x, allow_silent=allow_silent, progress=done, evidence=evidence)
    _show(result, report, evidence)
    if not result.ok:
        raise typer.Exit(1)
    hint("psu-deploy", "run", artifact, "--input", data or "x.npy", "--output", "y.npy", *_again(artifact, options))


def _again(artifact: Path, options: dict[str, Any]) -> list[Any]:
    """Words for `run`: those options that it takes too."""
    known = target_of(artifact).options_of("run")
    given = ([known[name].flag, value] for name, value in options.items() if name in known)
    return [word for words in given for word in words if word is not True]


def _check_report(report: Path | None, source: Path, artifact: Path, data: Path | None) -> None:
    """Refuse, before minutes are spent, what would not be written or must not be."""
    if report is None or report == STDOUT:
        return
    if report.is_dir():
        raise InputError(f"cannot write {report}: it is a folder; name a file in it")
    check_free("--report", report, source, artifact, *(() if data is None else (data,)))
    if _is_page(report):
        check_installed()


def _is_page(report: Path | None) -> bool:
    return report is not None and report.suffix.lower() in PAGES


def _show(result: EquivalenceReport, report: Path | None, evidence: Evidence | None) -> None:
    """For people, and for machines; where standard output is for machines, people read standard error."""
    if report == STDOUT:
        tell(result)
        say_json(result.to_dict())
        return
    say(result)
    if report is not None and evidence is not None:
        write_report(report, result, evidence, command=shlex.join(["psu-deploy", *sys.argv[1:]]))
        tell(f"wrote {visible(str(report))}")
    elif report is not None:
        result.save(report)
