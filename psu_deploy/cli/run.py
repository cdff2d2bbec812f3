"""psu-deploy run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from psu_deploy import api
from psu_deploy.cli.console import hint, progress, tell
from psu_deploy.cli.options import read_arrays
from psu_deploy.cli.sources import (
    MACHINE_FILE,
    MACHINE_SUFFIX,
    Floats,
    check_array_file,
    check_free,
    read_array,
    write_arrays,
)
from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.machine.inputs import check_sequence, check_static
from psu_deploy.text import visible
from psu_deploy.verify.alignment import drained


def run(
    artifact: Annotated[Path, typer.Argument(help="An exported file, or a saved machine (.psm).")],
    input: Annotated[Path, typer.Option(help="(T, B, ...) as .npy, float32, time-first.")],  # noqa: A002  the option's name
    output: Annotated[Path, typer.Option(help="Where to write (T, B, ...) as .npy; several outputs as .npz.")],
    **options: Any,
) -> None:
    """Run a sequence step by step on the engine the file was made for.

    A network that looks ahead is fed silent steps at the end, until the last answer is there: row t of the output
    belongs to row t of the input.

    Example: psu-deploy run out/model.onnx --input x.npy --output y.npy
    """
    check_free("--output", output, artifact, input)
    if artifact.is_dir():
        raise InputError(f"{artifact} is a folder; name its machine ({artifact / MACHINE_FILE}), or an exported file")
    if artifact.suffix == MACHINE_SUFFIX and options:
        flag = f"--{next(iter(options)).replace('_', '-')}"
        raise InputError(f"{flag} is for exported files; {artifact} is a saved machine, which runs here")
    x = read_array(input)
    of_machine = artifact.suffix == MACHINE_SUFFIX
    y = _run_machine(artifact, x, output) if of_machine else _run_artifact(artifact, x, output, options)
    write_arrays(output, y)
    for name, values in y.items() if isinstance(y, dict) else [("", y)]:
        tell(f"wrote {output}{name and f', {visible(name)}'}: {values.shape} {values.dtype}")
    more = ("--to", "onnx", "--out", "out/") if of_machine else ()
    hint("psu-deploy", "export" if of_machine else "inspect", artifact, *more)


def _run_machine(path: Path, x: Floats, output: Path) -> Any:
    machine = StateMachine.load(path)
    check_array_file(output, tuple(machine.outputs))
    check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
    return _each(lambda values: values[machine.latency :], machine.run(drained(machine, x)))


def _run_artifact(path: Path, x: Floats, output: Path, options: dict[str, Any]) -> Any:
    runner = api.load(path, **read_arrays(options))
    check_array_file(output, [tensor.name for tensor in runner.contents.outputs] or ["y"])
    horizon, latency = runner.artifact.horizon, runner.artifact.latency
    check_sequence(x, runner.input_shape, None if horizon is None else horizon - latency, ("float32",))
    if runner.artifact.static_input:
        check_static(x)
    if runner.aligns or not runner.resumes:
        return runner.run(x)
    runner.reset(x.shape[1])
    with progress() as bar:
        after = repeat(x[0] if runner.artifact.static_input else np.zeros_like(x[0]), latency)
        steps = bar.track(chain(x, after), total=len(x) + latency, description="running")
        answers = list(islice((runner.step(x_t) for x_t in steps), latency, None))
        return _each(lambda *rows: np.stack(rows), *answers)


def _each(change: Callable[..., Any], *given: Any) -> Any:
    """An output changed, made of those of some steps; of several, each."""
    if not isinstance(given[0], dict):
        return change(*given)
    return {name: change(*(one[name] for one in given)) for name in given[0]}
