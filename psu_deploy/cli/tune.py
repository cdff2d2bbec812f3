"""psu-deploy tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from psu_deploy.cli.assignments import TaskFile, import_tasks
from psu_deploy.cli.console import hint, say, table
from psu_deploy.cli.replacing import replacing
from psu_deploy.errors import InputError
from psu_deploy.exporters import target_named
from psu_deploy.preparation import LEVELS, TARGETS

if TYPE_CHECKING:
    from psu_deploy.training.tuning import TuneResult


def tune(
    source: Annotated[Path, typer.Argument(help="The model.psm of a run, or its folder.")],
    out: Annotated[Path, typer.Option(help="Run folder to write, with the exported file in it.")],
    for_: Annotated[str, typer.Option("--for", help=f"Target: {', '.join(TARGETS)}.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set, where the task needs one.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of fine-tuning; default: as many as it was trained.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: that of the recipe.")] = None,
    levels: Annotated[int, typer.Option(help="For nir: steps of the staircase.")] = LEVELS,
    exponentials: Annotated[int, typer.Option(help="For nir: exponentials in the place of a T x T matrix.")] = 4,
    distillation: Annotated[float, typer.Option(help="Weight of the original's answers in the loss, 0..1.")] = 0.5,
    simulator: Annotated[str | None, typer.Option(help="For nir: who shall read the file; default: portable.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in the folder.")] = False,
    task_file: TaskFile = None,
) -> None:
    """Make a trained network deployable: prepare it, fine-tune it towards what it was, export it, verify it.

    Says what it cost: accuracy and flipped spikes, before and after. Exit code 1 unless the export is equivalent to the
    tuned network.

    Example: psu-deploy tune runs/digits/model.psm --for nir --out runs/digits-nir

    Example: psu-deploy tune runs/digits/model.psm --for lava --epochs 10 --out runs/digits-lava
    """
    from psu_deploy.training.tuning import tune as run_tuning

    import_tasks(task_file)
    if simulator is not None and for_ != "nir":
        raise InputError(f"--simulator says who reads a NIR file; leave it out for {for_}")
    options: dict[str, Any] = {} if simulator is None else {"simulator": simulator}
    to = target_named(for_)
    with replacing(out / f"model{to.suffix}", to):
        result = run_tuning(
            source,
            for_,
            out,
            data=data,
            epochs=epochs,
            learning_rate=learning_rate,
            levels=levels,
            exponentials=exponentials,
            distillation=distillation,
            device=device,
            resume=resume,
            overwrite=overwrite,
            **options,
        )
    _show(result, for_, source)
    if not result.report.ok:
        raise typer.Exit(1)
    hint("psu-deploy", "inspect", result.artifact.path)


def _show(result: TuneResult, target: str, source: Path) -> None:
    say(result.report)
    rows = [
        ("original", f"{result.original_accuracy:.2%}", ""),
        (f"prepared for {target}", f"{result.prepared_accuracy:.2%}", f"{result.prepared_flips:.2%}"),
        ("fine-tuned, exported", f"{result.tuned_accuracy:.2%}", f"{result.tuned_flips:.2%}"),
    ]
    table(f"{source}, tuned for {target}", ("", "test accuracy", "spikes unlike the original's"), rows)
