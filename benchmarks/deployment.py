"""Time of one serial step: ours in ONNX and in C against SNN libraries, each other, and the memory's own speed.

    benchmarks/run [--rounds 15] [--steps 200] [--only step batch rows growth long] [--out docs/benchmarks.md]

Network 700-1024-1024-20, one thread, a twentieth of the inputs and a tenth of the hidden neurons firing. All ways run
in one process, interleaved round by round; a ratio is the median of those of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import Reader, Rows, touched
from interleaved import Line, Page, interleaved, machine, ratios
from simulators import HIDDEN_RATE, INPUT_RATE, SIZES, ours, simulators, spikes_in

import psu_deploy as psu
from psu_deploy.verify import aligned_run, certify

WIDTHS = (256, 512, 1024, 2048, 4096)
FAST_CACHE = 45e9
"""Bytes per second that a core reads from its cache: half-way between the two machines that ratios are asked of."""

REMEMBERED = 1000
"""Steps after which nothing is left of a state: half of it goes at each."""

CALIBRATION = 100
"""Steps on which all networks are made to fire alike."""


class Measured:
    """What all parts share: the network, exported every way, and the folder that the files are in."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.x = spikes_in(given.steps, 1)
        self.model = ours(self.x[:CALIBRATION])
        self.machine = psu.to_state_machine(self.model, input_shape=SIZES[:1])
        self.bandwidth = Reader().bytes_per_second(4 * sum(a * b for a, b in itertools.pairwise(SIZES)))

    def runner(self, name: str, model: Any = None, **options: Any) -> Any:
        """An exported network, at its start; options of the export."""
        path = self.folder / name
        network = self.machine if model is None else model
        psu.export(network, path, target="c" if path.suffix == ".c" else "onnx", **options)
        runner = psu.load(path, **({} if path.suffix == ".c" else {"threads": 1}))
        runner.reset(1)
        return runner

    def bytes_per_step(self) -> float:
        """Of the rows whose inputs fired."""
        spikes = self.machine.trace(self.x[:CALIBRATION]).spikes
        return touched([self.x[:CALIBRATION], *spikes.values()], SIZES[1:])


def step(m: Measured) -> list[Line]:
    """Batch 1: libraries, ONNX, C, the floor."""
    libraries = simulators(m.x[:CALIBRATION])
    runners = {
        "ONNX, dense": m.runner("dense.onnx", events=False),
        "ONNX": m.runner("auto.onnx"),
        "C": m.runner("net.c"),
    }
    ways = {name: way.step for name, way in (libraries | runners).items()}
    times = interleaved(ways, m.x, m.given.rounds)
    quick = m.bandwidth > FAST_CACHE
    floor = m.bytes_per_step() / m.bandwidth * 1e6
    inside = _inside(runners["C"], m)
    lines = [Line(f"{name}, one step", values, "us") for name, values in times.items()]
    lines += [Line("C, one step of a whole sequence in one call", inside, "us")]
    lines += [Line("memory: rows that fired, read at this core's speed", [floor], "us")]
    if libraries:
        lines += [
            Line("best library / ONNX", ratios(times, list(libraries), "ONNX"), least=6),
            Line("best library / C", ratios(times, list(libraries), "C"), least=25 if quick else 10),
        ]
    lines += [
        Line("ONNX, dense / ONNX", ratios(times, ["ONNX, dense"], "ONNX"), least=1.2 if quick else 3),
        Line("C / memory", [value / floor for value in inside], most=2),
    ]
    return lines


def _inside(runner: Any, m: Measured) -> list[float]:
    """Microseconds of a step where C goes through the whole sequence by itself."""
    found = []
    for _ in range(m.given.rounds + 1):
        runner.reset(1)
        start = time.process_time()
        runner.run(m.x)
        found.append((time.process_time() - start) / len(m.x) * 1e6)
    return found[1:]


def batch(m: Measured) -> list[Line]:
    """The same for 32 samples at once."""
    x = spikes_in(max(20, m.given.steps // 10), 32)
    libraries = simulators(m.x[:CALIBRATION])
    runners = {"ONNX": m.runner("batch.onnx"), "C": m.runner("batch.c")}
    for way in libraries.values():
        way.reset()
    for runner in runners.values():
        runner.reset(32)
    times = interleaved({name: way.step for name, way in (libraries | runners).items()}, x, m.given.rounds)
    lines = [Line(f"{name}, one step of 32 samples", values, "us") for name, values in times.items()]
    if libraries:
        lines.append(Line("best library / C", ratios(times, list(libraries), "C"), least=4))
    return lines


def rows(m: Measured) -> list[Line]:
    """Weights of eight bits against float32: the sums over the rows that fired by themselves, and whole steps."""
    lines = []
    own = Rows(m.folder).microseconds(SIZES[1], SIZES[2], int(HIDDEN_RATE * SIZES[1]), m.given.rounds)
    lines += [Line(f"rows of {SIZES[1]} to {SIZES[2]}, {name}", values, "us") for name, values in own.items()]
    lines.append(Line("rows, float32 / int8", ratios(own, ["float32"], "int8"), least=2))
    for width in (SIZES[1], WIDTHS[-1]):
        model = psu.to_state_machine(ours(m.x[:CALIBRATION], (700, width, width, 20)), input_shape=(700,))
        runners = {
            "float32": m.runner(f"float{width}.c", model, weights_file="bin"),
            "int8": m.runner(f"int8_{width}.c", model, numerics="int8", calibration=m.x[:CALIBRATION]),
        }
        times: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(m.given.rounds):
            for name, runner in runners.items():
                times[name].append(_inside_once(runner, m.x[:CALIBRATION]))
        lines += [Line(f"one step of 700-{width}-{width}-20, {name}", values, "us") for name, values in times.items()]
        lines.append(Line(f"700-{width}-{width}-20, float32 / int8", ratios(times, ["float32"], "int8")))
    return lines


def _inside_once(runner: Any, x: np.ndarray) -> float:
    runner.reset(x.shape[1])
    start = time.process_time()
    runner.run(x)
    return (time.process_time() - start) / len(x) * 1e6


def growth(m: Measured) -> list[Line]:
    """A step of 700-n-n-20, by n."""
    lines = []
    for width in WIDTHS:
        sizes = (700, width, width, 20)
        model = psu.to_state_machine(ours(m.x[:CALIBRATION], sizes), input_shape=(700,))
        files: dict[str, dict[str, Any]] = {"onnx": {}, "c": {"weights_file": "bin"}}  # gcc takes minutes over the text
        ways = {kind: m.runner(f"w{width}.{kind}", model, **options).step for kind, options in files.items()}
        times = interleaved(ways, m.x[: min(100, len(m.x))], max(3, m.given.rounds // 3))
        lines += [Line(f"n = {width}, {kind}", values, "us") for kind, values in times.items()]
    return lines


def long(m: Measured) -> list[Line]:
    """A million steps of 64-128-10: time, memory, and how far V has drifted from exact arithmetic."""
    x = spikes_in(10_000, 1, 64)
    model = ours(x[:CALIBRATION], (64, 128, 10))
    exact = psu.to_state_machine(model, input_shape=(64,))
    runner = m.runner("long.c", exact)
    times, before = [], _peak()
    for _ in range(m.given.long // len(x)):
        start = time.process_time()
        for x_t in x:
            runner.step(x_t)
        times.append((time.process_time() - start) / len(x) * 1e6)
    gained, tail = _peak() - before, max(1, len(times) // 10)
    return [
        Line(f"{len(times) * len(x)} steps, a step of the first tenth", times[:tail], "us"),
        Line("a step of the last tenth", times[-tail:], "us"),
        Line("memory gained meanwhile", [gained], "MiB", most=2),
        Line("state after the last step, off by / proven bound", [_drift(exact, runner, x[-REMEMBERED:])], most=1),
    ]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _drift(machine: psu.StateMachine, runner: Any, x: np.ndarray) -> float:
    """How far the states are off, by what rounding can do: against exact arithmetic that begins with x.

    What came before x has leaked away by its end.
    """
    certificate = certify(machine, x, aligned_run(machine, machine.trace, x))
    exact, bounds = certificate.exact.state, certificate.bounds.state
    return max(float((abs(runner.state[name] - exact[name].numpy()) / bound).max()) for name, bound in bounds.items())


PARTS: dict[str, tuple[str, Callable[[Measured], list[Line]]]] = {
    "step": ("One step, batch 1", step),
    "batch": ("One step, batch 32", batch),
    "rows": ("Weights of eight bits", rows),
    "growth": ("By width", growth),
    "long": ("By length", long),
}


def chip(page: Page) -> None:
    """The network of digits on a Cortex-M4 in QEMU, where that is installed."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from benchmarks import cortex_m4

    title = "handwritten digits, 8-128-128-10, on a Cortex-M4"
    if cortex_m4.board.missing():
        page.say(f"\n{title}: not measured, {cortex_m4.board.missing()} is not installed; scripts/arm installs it")
        return
    page.say(f"\n## {title[0].upper()}{title[1:]}\n\n| {' | '.join(cortex_m4.TITLES)} |")
    page.say(f"|{'---|' * len(cortex_m4.TITLES)}")
    for row in cortex_m4.figures(cortex_m4.NEURONS):
        page.say(f"| {' | '.join(row)} |")


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--long", type=int, default=1_000_000, help="steps of the part of that name")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="write the page here as well")
    given = parser.parse_args()
    torch.set_num_threads(1)
    page = Page()
    page.say(f"# Benchmarks\n\nWritten by `benchmarks/run --rounds {given.rounds} --steps {given.steps}`.\n")
    page.say(f"{machine()}.")
    with tempfile.TemporaryDirectory() as folder:
        measured = Measured(given, Path(folder))
        page.say(
            f"\n{'-'.join(map(str, SIZES))}, {INPUT_RATE:.0%} of the inputs and a tenth of the hidden neurons firing, "
            f"one thread. This core reads {measured.bandwidth / 1e9:.0f} GB/s from memory of the size of the weights."
        )
        for name in given.only:
            title, part = PARTS[name]
            page.table(title, part(measured))
    chip(page)
    if given.out:
        page.write(given.out)


if __name__ == "__main__":
    main()
