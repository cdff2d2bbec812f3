"""psu-deploy demo."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import nn

from psu_deploy import api
from psu_deploy.cli.console import hint, say, table, tell
from psu_deploy.errors import InputError, MissingExtraError
from psu_deploy.files.atomic import write_whole
from psu_deploy.machine import StateMachine
from psu_deploy.report import Evidence, write_report
from psu_deploy.runtime import Artifact
from psu_deploy.verify import EquivalenceReport

PAGE = "report.html"
"""In the folder of every neuron."""


@dataclass(frozen=True)
class Outcome:
    """What the demo measured for one neuron.

    Attributes:
        neuron: its name.
        parallel_accuracy: of the trained module, all steps at once, in torch.
        serial_accuracy: of the exported file, one step at a time, in onnxruntime.
        state_bytes: float32 state per sample.
        step_microseconds: of one step of one sample in onnxruntime.
        int8_accuracy: of the .net file, in the integer reference.
        lava_accuracy: of the same file, in Lava; None where Lava is not installed.
        report: of the three-way verification on the test data.
    """

    neuron: str
    parallel_accuracy: float
    serial_accuracy: float
    state_bytes: int
    step_microseconds: float
    int8_accuracy: float
    lava_accuracy: float | None
    report: EquivalenceReport


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo"),
    neurons: Annotated[str, typer.Option(help="Neurons to go through, comma-separated.")] = "rpsu,ipsu,psu",
) -> None:
    """Train on handwritten digits, export to ONNX, run it serially in onnxruntime, and prove the spikes are the same.
    Then round it to eight bits for Lava, and run it there.

    Example: psu-deploy demo
    """
    outcomes = [_go_through(neuron.strip(), out) for neuron in neurons.split(",") if neuron.strip()]
    if not outcomes:
        raise InputError("name at least one neuron, such as psu,rpsu")
    say(outcomes[0].report)
    table(_TITLE, _COLUMNS, map(_row, outcomes))
    path = _write_report(out / "report.json", outcomes)
    tell(f"wrote {path}, and {out / outcomes[0].neuron / PAGE} to look at")
    hint(f"psu-deploy inspect {out / outcomes[0].neuron / 'model.onnx'}")
    if not all(outcome.report.ok for outcome in outcomes):
        raise typer.Exit(1)


def _go_through(neuron: str, out: Path) -> Outcome:
    from psu_deploy.training import Recipe, load_run, test_data, train

    folder, recipe = out / neuron, Recipe(neuron=neuron)
    tell(f"{neuron}: training ...")
    trained = train(recipe, folder, overwrite=True)
    tell(f"{neuron}: exporting, running serially, verifying ...")
    machine = StateMachine.load(folder / "model.psm")
    artifact = api.export(machine, folder / "model.onnx")
    x, labels = test_data(recipe)

    def accuracy(runner: Any) -> float:
        return float((runner.run(x)[-1].argmax(1) == labels).mean())

    tell(f"{neuron}: rounding to eight bits, running in Lava ...")
    rounded = api.export(machine, folder / "model.net", target="lava", calibration=x)
    return Outcome(
        neuron=neuron,
        parallel_accuracy=trained.test_accuracy,
        serial_accuracy=accuracy(api.load(artifact)),
        state_bytes=sum(value.nbytes for value in machine.initial_state(1).values()),
        step_microseconds=_step_microseconds(api.load(artifact, threads=1), x[:, :1]),
        int8_accuracy=accuracy(api.load(rounded, simulator="integer")),
        lava_accuracy=_in_lava(rounded, accuracy),
        report=_verified(folder, load_run(folder).model, artifact, x),
    )


def _verified(folder: Path, model: nn.Module, artifact: Artifact, x: Any) -> EquivalenceReport:
    """Hold the file against the module, and write a page about it into the run's folder."""
    evidence = Evidence()
    report = api.verify(model, artifact, x, evidence=evidence)
    command = f"psu-deploy verify {shlex.quote(str(folder))} {shlex.quote(str(artifact.path))}"
    write_report(folder / PAGE, report, evidence, command=command)
    return report


def _in_lava(artifact: Artifact, accuracy: Callable[[Any], float]) -> float | None:
    try:
        return accuracy(api.load(artifact))
    except MissingExtraError as error:
        tell(f"not run in Lava: {error}")
        return None


def _step_microseconds(runner: Any, x: Any, rounds: int = 50) -> float:
    """Median over rounds of the mean time of a step."""
    times = []
    for _ in range(rounds):
        runner.reset(1)
        start = time.perf_counter()
        for x_t in x:
            runner.step(x_t)
        times.append((time.perf_counter() - start) / len(x) * 1e6)
    return float(np.median(times))


_TITLE = (
    "handwritten digits, 8 steps: test accuracy in parallel (torch), serially (onnxruntime),\n"
    "with int8 weights and 24-bit states, and in Lava"
)
_COLUMNS = ("neuron", "parallel", "serial", "flips", "state", "step", "int8", "Lava")


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.neuron,
        f"{outcome.parallel_accuracy:.2%}",
        f"{outcome.serial_accuracy:.2%}",
        str(outcome.report.spike_flips),
        f"{outcome.state_bytes:,} B",
        f"{outcome.step_microseconds:.0f} us",
        f"{outcome.int8_accuracy:.2%}",
        "-" if outcome.lava_accuracy is None else f"{outcome.lava_accuracy:.2%}",
    )


def _write_report(path: Path, outcomes: list[Outcome]) -> Path:
    results = [{**vars(outcome), "report": outcome.report.to_dict()} for outcome in outcomes]
    ok = all(outcome.report.ok for outcome in outcomes)
    write_whole(path, (json.dumps({"ok": ok, "results": results}, indent=2) + "\n").encode())
    return path
