"""Time of a Linear layer that reads the weights of what fired, over that of one that reads all: the choice made in
`exporters/onnx/events.py`.

One layer, batch 1, one thread, CPU seconds of `OnnxRunner.step`, medians of ratios over interleaved rounds; above 1 the
file with events is faster. Gathering never stops at a rate here; the last column is what a file pays that always takes
the other way.

    python benchmarks/choose_events.py [--rounds 15] [--steps 100] [--sizes 1024x1024 700x1024]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

import psu_deploy as psu
from psu_deploy.exporters.onnx import events
from psu_deploy.machine import Node, StateMachine, ops

SIZES = ("64x128", "256x256", "512x512", "512x1024", "700x1024", "1024x512", "1024x1024", "4096x256", "2048x2048")
RATES = (0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def runner(machine: StateMachine, path: Path, gather_up_to: float) -> psu.Runner:
    """Of a file that gathers rows up to a firing rate; at 0, of one that multiplies with all."""
    events.RATE = gather_up_to
    artifact = psu.export(machine, path, target="onnx", events=gather_up_to > 0)
    opened = psu.load(artifact, threads=1)
    opened.reset(1)
    return opened


def seconds(run: psu.Runner, x: np.ndarray) -> float:
    """Of all steps."""
    start = time.process_time()
    for x_t in x:
        run.step(x_t)
    return time.process_time() - start


def measure(inputs: int, outputs: int, rounds: int, steps: int, folder: Path) -> list[float]:
    """How many times as fast the file with events is, at every rate, and where it must not gather."""
    random = np.random.default_rng(0)
    layer = ops.Linear(random.standard_normal((outputs, inputs)), random.standard_normal(outputs))
    machine = StateMachine((Node("layer", layer, ("x",)),), (inputs,))
    dense, always, never = (runner(machine, folder / f"{rate}.onnx", rate) for rate in (0.0, 1.0, 1e-9))
    cases = [(rate, always) for rate in RATES] + [(RATES[-1], never)]
    sequences = [(random.random((steps, 1, inputs)) < rate).astype(np.float32) for rate, _ in cases]
    found: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for ratios, x, (_, sparse) in zip(found, sequences, cases, strict=True):
            ratios.append(seconds(dense, x) / seconds(sparse, x))
    return [median(ratios) for ratios in found]


def main() -> None:
    """Print a table: sizes down, rates across."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    given = parser.parse_args()
    print(f"{'in x out':>10}  {'weights':>9}  " + "  ".join(f"{rate:5.0%}" for rate in RATES) + "  other way")
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            inputs, outputs = map(int, size.split("x"))
            ratios = measure(inputs, outputs, given.rounds, given.steps, Path(folder))
            print(f"{size:>10}  {inputs * outputs:>9,}  " + "  ".join(f"{r:4.2f}x" for r in ratios), flush=True)


if __name__ == "__main__":
    main()
