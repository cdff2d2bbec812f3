"""psu-deploy train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from psu_deploy.cli.console import hint, table
from psu_deploy.errors import InputError
from psu_deploy.exporters import target_named
from psu_deploy.models import CAUSAL
from psu_deploy.preparation import TARGETS


def train(
    task: Annotated[str, typer.Argument(help="What to learn: digits.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    neuron: Annotated[str, typer.Option(help=f"{', '.join(CAUSAL)}.")] = "rpsu",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of the samples.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the run in the folder anew.")] = False,
    deploy_for: Annotated[
        str | None,
        typer.Option(help=f"Prepare the trained network for this target and fine-tune it: {', '.join(TARGETS)}."),
    ] = None,
    levels: Annotated[int, typer.Option(help="With --deploy-for nir: steps of the staircase.")] = 15,
    exponentials: Annotated[
        int, typer.Option(help="With --deploy-for nir: exponentials in the place of a T x T matrix.")
    ] = 4,
) -> None:
    """Train a network with all time steps at once and write a run folder: recipe, weights, machine, metrics.

    Example: psu-deploy train digits --neuron rpsu --out runs/digits

    Example: psu-deploy train digits --neuron rpsu --out runs/digits --resume

    Example: psu-deploy train digits --neuron rpsu --deploy-for nir --out runs/nir

    Example: psu-deploy train digits --neuron rpsu --deploy-for lava --out runs/lava
    """
    from psu_deploy.training import RECIPES
    from psu_deploy.training import train as run_training

    recipe = RECIPES.get(f"{task}-{neuron}")
    if recipe is None:
        raise InputError(f"no recipe for {task} with {neuron}; choose one of {', '.join(RECIPES)}")
    recipe = replace(recipe, seed=seed, epochs=recipe.epochs if epochs is None else epochs)
    recipe = replace(recipe, deploy_for=deploy_for, levels=levels, exponentials=exponentials)
    result = run_training(recipe, out, device=device, resume=resume, overwrite=overwrite)
    rows = [
        ("test accuracy", f"{result.test_accuracy:.2%}"),
        ("epochs", result.epochs),
        ("seconds", f"{result.seconds:.1f}"),
        ("device", result.device),
    ]
    prepared = "" if deploy_for is None else f", prepared for {deploy_for}"
    table(f"{task} with {neuron}{prepared}, in {out}", ("", ""), rows)
    to = target_named(deploy_for or "onnx")
    suggested = [word for one in to.options if one.suggested and deploy_for for word in (one.flag, one.suggested)]
    hint("psu-deploy", "export", out, "--to", to.name, *suggested, "--out", out)
