"""psu-deploy inspect."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy import api
from psu_deploy.cli.assignments import TaskFile, import_tasks
from psu_deploy.cli.console import hint, out, say, table
from psu_deploy.cli.sources import MACHINE_FILE, MACHINE_SUFFIX
from psu_deploy.exporters import target_of
from psu_deploy.machine import StateMachine
from psu_deploy.machine.schedule import state_name
from psu_deploy.runtime import Runner
from psu_deploy.runtime.contents import Tensor
from psu_deploy.text import visible

Described = dict[str, Any]
"""What a file holds, as plain data: what --json prints."""


def inspect(
    file: Annotated[Path, typer.Argument(help="A run folder, a saved machine (.psm) or an exported file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    task_file: TaskFile = None,
) -> None:
    """Show what a file holds: inputs and outputs, layers, state, horizon, and what it promises.

    Example: psu-deploy inspect out/model.onnx

    Example: psu-deploy inspect out/model.onnx --json
    """
    import_tasks(task_file)
    if file.is_dir():
        described = _inspect_run(file, not as_json)
    elif file.suffix == MACHINE_SUFFIX:
        described = _inspect_machine(file, not as_json)
    else:
        described = _inspect_artifact(file, not as_json)
    if as_json:
        out.print(json.dumps(described, indent=2), markup=False, emoji=False)
    elif file.is_dir() or file.suffix == MACHINE_SUFFIX:
        hint("psu-deploy", "export", file, "--to", "onnx", "--out", "out/")
    else:
        hint("psu-deploy", "run", file, "--input", "x.npy", "--output", "y.npy")


def _inspect_run(folder: Path, shown: bool) -> Described:
    from psu_deploy.training import load_run

    recipe = json.loads(load_run(folder).recipe.to_json())
    if shown:
        table(visible(f"recipe of {folder}"), ("", ""), recipe.items())
    return {"recipe": recipe, "machine": _inspect_machine(folder / MACHINE_FILE, shown)}


def _inspect_machine(path: Path, shown: bool) -> Described:
    machine = StateMachine.load(path)
    if shown:
        say(machine.summary())
        say(f"machine {machine.content_hash}")
    return {
        "file": str(path),
        "machine": machine.content_hash,
        "horizon": machine.horizon,
        "latency": machine.latency,
        "static_input": machine.static_input,
        "inputs": _tensors([Tensor("x", machine.input_shape)]),
        "outputs": _tensors([Tensor(name, shape) for name, shape in machine.outputs.items()]),
        "layers": [
            {
                "name": node.name,
                "kind": type(node.layer).__name__,
                "shape": machine.shapes[node.name],
                "parameters": node.layer.parameters,
                "state_bytes": _BYTES
                * sum(prod(machine.state_spec[state_name(node.name, role)].shape) for role in machine.roles(node.name)),
            }
            for node in machine.nodes
        ],
        "state": _tensors([Tensor(name, spec.shape, spec.dtype) for name, spec in machine.state_spec.items()]),
    }


_BYTES = 4
"""State is counted as float32."""

_WORTH_SHOWING = ("reader", "dt", "readout")
"""Facts of a file that its artifact does not have."""


def _inspect_artifact(path: Path, shown: bool) -> Described:
    runner = api.load(path, **target_of(path).without_engine)
    described = _described(path, runner)
    if shown:
        table(visible(str(path)), ("", ""), _promises(described))
        for what in ("inputs", "outputs", "layers", "state"):
            _show(what, described[what])
        if runner.report is not None:
            say(runner.report)
    return described


def _described(path: Path, runner: Runner) -> Described:
    artifact, contents = runner.artifact, runner.contents
    return {
        "file": str(path),
        "target": artifact.target,
        "runs_in": runner.engine,
        **{key: runner.facts[key] for key in _WORTH_SHOWING if key in runner.facts},
        "fidelity": artifact.fidelity,
        "approximations": artifact.approximations,
        "steps": None if artifact.horizon is None else artifact.horizon - artifact.latency,
        "latency": artifact.latency,
        "static_input": artifact.static_input,
        "sequence": bool(runner.facts.get("sequence")),
        "memory": runner.memory,
        "machine": artifact.machine_hash,
        "versions": dict(artifact.versions),
        "inputs": _tensors(contents.inputs),
        "outputs": _tensors(contents.outputs),
        "layers": [layer._asdict() for layer in contents.layers],
        "state": _tensors(contents.state),
        "report": None if runner.report is None else runner.report.to_dict(),
    }


def _tensors(tensors: Any) -> list[Described]:
    return [tensor._asdict() for tensor in tensors]


def _promises(described: Described) -> list[tuple[str, Any]]:
    steps, static, versions = described["steps"], described["static_input"], described["versions"]
    return [
        ("target", described["target"]),
        ("runs in", described["runs_in"]),
        *((key, described[key]) for key in _WORTH_SHOWING if key in described),
        ("fidelity", described["fidelity"]),
        *(("approximation", text) for text in described["approximations"]),
        ("defined for", "any number of steps" if steps is None else f"{steps} steps"),
        ("latency", f"{described['latency']} steps"),
        ("input", "static: read in the first step only" if static else "read at every step"),
        *([("takes", "a sequence, all steps in one call")] if described["sequence"] else []),
        *((what, f"{count:,} bytes") for what, count in described["memory"].items()),
        ("machine", described["machine"]),
        *([("written by", ", ".join(f"{name} {version}" for name, version in versions.items()))] if versions else []),
    ]


_TITLES = {"state": "state per sample, zero at first", "layers": "layers, shapes per sample"}


def _show(what: str, rows: list[Described]) -> None:
    """A table, unless the file does not tell."""
    if rows:
        cells = [["-" if value is None else value for value in row.values()] for row in rows]
        table(_TITLES.get(what, what), tuple(rows[0]), cells)
