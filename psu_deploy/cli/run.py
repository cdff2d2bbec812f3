"""psu-deploy run."""

from __future__ import annotations

from itertools import chain, islice, repeat
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from psu_deploy import api
from psu_deploy.cli.console import progress, tell
from psu_deploy.cli.options import read_arrays
from psu_deploy.cli.sources import MACHINE_FILE, MACHINE_SUFFIX, Floats, check_free, read_array, write_array
from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine
from psu_deploy.machine.inputs import check_sequence, check_static
from psu_deploy.verify.alignment import drained


def run(
    artifact: Annotated[Path, typer.Argument(help="An exported file, or a saved machine (.psm).")],
    input: Annotated[Path, typer.Option(help="(T, B, ...) as .npy, float32, time-first.")],  # noqa: A002  the option's name
    output: Annotated[Path, typer.Option(help="Where to write (T, B, ...) as .npy.")],
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
    y = _run_machine(artifact, x) if artifact.suffix == MACHINE_SUFFIX else _run_artifact(artifact, x, options)
    write_array(output, y)
    tell(f"wrote {output}: {y.shape} {y.dtype}")


def _run_machine(path: Path, x: Floats) -> Floats:
    machine = StateMachine.load(path)
    check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
    result: Floats = machine.run(drained(x, machine.latency))
    return result[machine.latency :]


def _run_artifact(path: Path, x: Floats, options: dict[str, Any]) -> Floats:
    runner = api.load(path, **read_arrays(options))
    horizon, latency = runner.artifact.horizon, runner.artifact.latency
    check_sequence(x, runner.input_shape, None if horizon is None else horizon - latency, ("float32",))
    if runner.artifact.static_input:
        check_static(x)
    if runner.aligns or not runner.resumes:
        whole: Floats = runner.run(x)
        return whole
    runner.reset(x.shape[1])
    with progress() as bar:
        silence = repeat(np.zeros_like(x[0]), latency)
        steps = bar.track(chain(x, silence), total=len(x) + latency, description="running")
        answers = (runner.step(x_t) for x_t in steps)
        return np.stack(list(islice(answers, latency, None)))
