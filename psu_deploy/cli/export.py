"""psu-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy import api
from psu_deploy.cli.assignments import TaskFile, import_tasks
from psu_deploy.cli.console import hint, progress, say, table
from psu_deploy.cli.options import check_options, read_arrays
from psu_deploy.cli.replacing import replacing
from psu_deploy.cli.sources import Source, check_free, open_machine, open_source
from psu_deploy.errors import InputError
from psu_deploy.exporters import Target, all_targets, target_named
from psu_deploy.runtime import Artifact


def export(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    out: Annotated[Path, typer.Option(help="File to write, or a folder to write model.* into.")],
    to: Annotated[str, typer.Option(help=f"Target: {', '.join(all_targets())}.")] = "onnx",
    task_file: TaskFile = None,
    **options: Any,
) -> None:
    """Export a network, and check what was written before it is moved into place.

    A file of this name that was there is replaced, and what it was is said.

    Example: psu-deploy export runs/digits --to onnx --out out/

    Example: psu-deploy export model.psm --to nir --simulator portable --out out/

    Example: psu-deploy export model.psm --to lava --calibrate x.npy --out out/
    """
    import_tasks(task_file)
    target = target_named(to)
    check_options(options, target)
    path = _file(out, target)
    arrays = [value for value in options.values() if isinstance(value, Path)]
    check_free("--out", path, source, *arrays)
    with progress() as bar:
        bar.add_task(f"exporting to {to}", total=None)
        wanted = _from_run(target, options)
        network = open_source(source) if wanted else Source(open_machine(source))
        data = dict.fromkeys(wanted, network.data)
        with replacing(path, target):
            artifact = api.export(network.machine, path, target=to, **read_arrays(options), **data)
    if target.reports:
        report = api.load(artifact, **target.without_engine).report
        if report is not None:
            say(report)
    table("exported and checked", ("", ""), _facts(artifact, target, options))
    hint("psu-deploy", "verify", source, artifact.path, *_again(target, options))


def _file(out: Path, target: Target) -> Path:
    """What to write: `out`, or model.* in it."""
    if out.suffix == target.suffix:
        return out
    if out.suffix and not out.is_dir():
        raise InputError(
            f"a file for --to {target.name} ends in {target.suffix}, got {out}; if it is to be a folder, make it first"
        )
    return out / f"model{target.suffix}"


def _from_run(target: Target, options: dict[str, Any]) -> list[str]:
    """The options that were left out and are the test data of a run folder."""
    return [
        name
        for name, option in target.options_of("export").items()
        if option.from_run
        and name not in options
        and option.only_with in (None, *options)
        and option.only_at in (None, options.get(option.only_with or ""))
    ]


def _facts(artifact: Artifact, target: Target, options: dict[str, Any]) -> list[tuple[str, Any]]:
    """What was written, and what it promises."""
    horizon = "any number of steps" if artifact.horizon is None else f"{artifact.horizon - artifact.latency} steps"
    shown = [(name, option.shown) for name, option in target.options_of("export").items() if option.shown]
    notes = artifact.approximations[:1] if target.reports else artifact.approximations  # alarms are said above
    return [
        ("file", artifact.path),
        ("size", _size(artifact)),
        *((title, options.get(name, otherwise)) for name, (title, otherwise) in shown),
        ("fidelity", artifact.fidelity),
        ("defined for", horizon),
        ("latency", f"{artifact.latency} steps"),
        ("machine", artifact.machine_hash[:12]),
        *(("approximation", text) for text in notes),
    ]


def _size(artifact: Artifact) -> str:
    """Of all that was written."""
    names = artifact.files or (artifact.path.name,)
    total = sum(artifact.path.with_name(name).stat().st_size for name in names)
    return f"{total:,} bytes" if len(names) == 1 else f"{total:,} bytes in {', '.join(names)}"


def _again(target: Target, options: dict[str, Any]) -> list[Any]:
    """Words for `verify`: the same data, and those options that it takes too."""
    exported, verified = target.options_of("export"), target.options_of("verify")
    words: list[Any] = []
    for name, value in options.items():
        if isinstance(value, Path):
            words += ["--data", value]
        elif name in verified:
            words += [verified[name].flag]
            words += [] if value is True else [exported[name].at_verify.get(value, value)]
    return words
