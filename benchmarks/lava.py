"""Time of 1000 steps of 700-1024-1024-20: Lava in fixed point, against the integer reference, in one run.

    python benchmarks/lava.py [--neuron psu|rpsu] [--rounds 5] [--rate 0.05]

Needs Lava: psu-deploy lava setup. The ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import psu_deploy as psu

SIZES = (700, 1024, 1024, 20)
STEPS, MATRIX_STEPS = 1000, 100


def network(neuron: str) -> nn.Module:
    """700-1024-1024-20 with neurons behind the two hidden layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(SIZES):
        layers.append(nn.Linear(inputs, outputs))
        if outputs != SIZES[-1]:
            layers.append(psu.PSU(threshold=0.1) if neuron == "psu" else psu.RPSU(MATRIX_STEPS, threshold=0.1))
    return psu.SpikingSequential(*layers).eval()


def main() -> None:
    """Print seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neuron", choices=("psu", "rpsu"), default="psu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.05, help="of the input's spikes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps = STEPS if given.neuron == "psu" else MATRIX_STEPS
    x = (np.random.default_rng(0).random((steps, STEPS // steps, SIZES[0])) < given.rate).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        artifact = psu.export(
            network(given.neuron), Path(folder) / "net.net", target="lava", input_shape=(SIZES[0],), calibration=x[:100]
        )
        print(f"export: {time.perf_counter() - began:.2f} s")
        runners = [psu.load(artifact), psu.load(artifact, simulator="integer")]
        rounds = [[_seconds(runner, x) for runner in runners] for _ in range(given.rounds)]
        start = _seconds(runners[0], x[:1, :1])
    lava, integer = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median((a - start) / b for a, b in rounds)
    print(f"{STEPS} steps, input firing at {given.rate:.0%}: Lava {lava:.2f} s, {start:.2f} s of it starting up")
    print(f"integer reference {integer:.2f} s; Lava after start-up takes {ratio:.1f} times as long")


def _seconds(runner: psu.Runner, x: np.ndarray) -> float:
    began = time.perf_counter()
    runner.run(x)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
