"""psu-deploy inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from psu_deploy import api
from psu_deploy.cli.console import say, table
from psu_deploy.cli.sources import MACHINE_FILE, MACHINE_SUFFIX
from psu_deploy.exporters import target_of
from psu_deploy.machine import StateMachine


def inspect(
    file: Annotated[Path, typer.Argument(help="A run folder, a saved machine (.psm) or an exported file.")],
) -> None:
    """Show what a file holds: layers, state, horizon, and what it promises.

    Example: psu-deploy inspect out/model.onnx
    """
    if file.is_dir():
        _inspect_run(file)
    elif file.suffix == MACHINE_SUFFIX:
        _inspect_machine(file)
    else:
        _inspect_artifact(file)


def _inspect_run(folder: Path) -> None:
    from psu_deploy.training import load_run

    run = load_run(folder)
    table(f"recipe of {folder}", ("", ""), json.loads(run.recipe.to_json()).items())
    _inspect_machine(folder / MACHINE_FILE)


def _inspect_machine(path: Path) -> None:
    machine = StateMachine.load(path)
    say(machine.summary())
    say(f"machine {machine.content_hash}")


def _inspect_artifact(path: Path) -> None:
    runner = api.load(path, **target_of(path).without_engine)
    artifact = runner.artifact
    facts = getattr(runner, "facts", {})
    steps = None if artifact.horizon is None else artifact.horizon - artifact.latency
    rows = [
        ("target", artifact.target),
        ("runs in", "Lava" if artifact.target == "lava" else getattr(runner, "name", artifact.target)),
        *((key, facts[key]) for key in ("reader", "dt", "input_shape", "output_shape", "readout") if key in facts),
        ("fidelity", artifact.fidelity),
        *(("approximation", text) for text in artifact.approximations),
        ("defined for", "any number of steps" if steps is None else f"{steps} steps"),
        ("latency", f"{artifact.latency} steps"),
        ("input", "static: read in the first step only" if artifact.static_input else "read at every step"),
        ("machine", artifact.machine_hash),
        ("written by", ", ".join(f"{name} {version}" for name, version in artifact.versions.items())),
    ]
    table(str(path), ("", ""), rows)
    if hasattr(runner, "report"):
        say(runner.report)
    runner.reset(batch_size=1)
    state = [(name, value.shape[1:], value.dtype) for name, value in runner.state.items()]
    if state:
        table("state per sample, zero at first", ("name", "shape", "dtype"), state)
