"""psu-deploy train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from psu_deploy.cli.assignments import Set, TaskFile, as_fields, import_tasks
from psu_deploy.cli.console import hint, table, tell
from psu_deploy.exporters import target_named
from psu_deploy.models import CAUSAL
from psu_deploy.preparation import TARGETS

if TYPE_CHECKING:
    from psu_deploy.training import Recipe, RunResult


def train(
    task: Annotated[
        str, typer.Argument(help="What to learn: digits, digits-pixels, shd, ...; an unknown name lists all.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    neuron: Annotated[
        str | None, typer.Option(help=f"{', '.join(CAUSAL)}; default rpsu, where the network has none of its own.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set, where the task needs one.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of the samples.")] = 0,
    set_: Set = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on this machine; with cuda, GPUs.")] = 1,
    num_nodes: Annotated[int, typer.Option(help="Machines; docs/gpu.md says how they are started.")] = 1,
    strategy: Annotated[Literal["auto", "ddp", "fsdp"], typer.Option(help="How processes work together.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the run in the folder anew.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write events for TensorBoard, too.")] = False,
    task_file: TaskFile = None,
    deploy_for: Annotated[
        str | None,
        typer.Option(help=f"Prepare the trained network for this target and fine-tune it: {', '.join(TARGETS)}."),
    ] = None,
    levels: Annotated[int, typer.Option(help="With --deploy-for nir: steps of the staircase.")] = 15,
    exponentials: Annotated[
        int, typer.Option(help="With --deploy-for nir: exponentials in the place of a T x T matrix.")
    ] = 4,
) -> None:
    """Train a network with all time steps at once and write a run folder: recipe, weights, machine, metrics, pictures.

    Example: psu-deploy train digits --neuron rpsu --out runs/digits

    Example: psu-deploy train digits --neuron rpsu --out runs/digits --resume

    Example: psu-deploy train cifar10-dvs --neuron rpsu --data data/CIFAR10DVS --out runs/dvs

    Any field of the recipe, any option of the task or the neuron can be another:

    Example: psu-deploy train shd --data data/SHD --set binning=causal --set threshold=0.2 --out runs/shd

    Example: psu-deploy train digits --neuron rpsu --deploy-for lava --out runs/lava
    """
    from psu_deploy.training import preset
    from psu_deploy.training import train as run_training
    from psu_deploy.training.machines import Machines
    from psu_deploy.training.processes import this_process

    import_tasks(task_file)
    given: dict[str, Any] = {"seed": seed, "deploy_for": deploy_for, "levels": levels, "exponentials": exponentials}
    given |= {name: value for name, value in (("epochs", epochs), ("precision", precision)) if value is not None}
    recipe = preset(task, neuron, **(given | as_fields(set_ or [], task, neuron)))
    first = this_process(Machines(device, devices, num_nodes, strategy), os.environ).rank == 0
    result = run_training(
        recipe,
        out,
        data=data,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        resume=resume,
        overwrite=overwrite,
        tensorboard=tensorboard,
    )
    if first:
        _show(recipe, result, out)


def _show(recipe: Recipe, result: RunResult, out: Path) -> None:
    rows = [
        ("test accuracy", f"{result.test_accuracy:.2%}"),
        ("epochs", result.epochs),
        ("seconds", f"{result.seconds:.1f}"),
        ("device", result.device),
    ]
    prepared = "" if recipe.deploy_for is None else f", prepared for {recipe.deploy_for}"
    table(f"{recipe.task} with {recipe.neuron}{prepared}, in {out}", ("", ""), rows)
    live = recipe.make_task().not_streamable
    if live is not None:
        tell(f"note: a live sensor could not feed this network: {live}")
    to = target_named(recipe.deploy_for or "onnx")
    chosen = [one for one in to.options if one.suggested and recipe.deploy_for]
    suggested = [word for one in chosen for word in (one.flag, one.suggested)]
    hint("psu-deploy", "export", out, "--to", to.name, *suggested, "--out", out)
