"""From which size on a neuron runs fused: measures both ways; writes the table in psu_deploy/nn/kernels/choice.py.

    python benchmarks/choose_kernels.py            # prints
    python benchmarks/choose_kernels.py --write    # and writes

Forward and backward, one thread; the time is that of the processor, so other work on the machine matters little.
"""

from __future__ import annotations

import itertools
import platform
import re
import statistics
import sys
import time
from pathlib import Path

import numba
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.nn import kernels
from psu_deploy.nn.kernels import choice
from psu_deploy.nn.temporal import Exponentials

STEPS = (1, 2, 4, 8, 16)
SIZES = tuple(1 << power for power in range(12, 17))
"""With fewer numbers a process spends longer on loading Numba, a second or two, than it saves in a thousand batches."""

KINDS = {
    "spiking_unit": psu.PSU,
    "lif": psu.LIF,
    "exponentials": lambda: Exponentials.near_leak(4, 0.5, 0.5),
}


def seconds(neuron: nn.Module, x: torch.Tensor, g: torch.Tensor) -> float:
    """Forward and backward."""
    before = time.thread_time()
    neuron(x).backward(g)
    return time.thread_time() - before


def ratio(neuron: nn.Module, steps: int, size: int) -> float:
    """Time step by step over time in one pass, the median of pairs."""
    x, g = torch.randn(2, steps, max(1, size // steps))[:, :, None]
    x.requires_grad_()
    pairs = []
    for _ in range(25):
        fused = seconds(neuron, x, g)
        with kernels.step_by_step():
            pairs.append(seconds(neuron, x, g) / fused)
    return statistics.median(pairs[5:])


def smallest(kind: str, steps: int) -> int:
    """The smallest size from which on one pass is faster."""
    neuron, found = KINDS[kind](), SIZES[-1]
    for size in reversed(SIZES):
        faster = ratio(neuron, steps, size)
        print(f"{kind:13} T={steps:<4} {size:6} numbers: {faster:.1f}x", flush=True)
        if faster < 1:
            break
        found = size
    return found


def row(kind: str) -> dict[int, int]:
    """Steps -> smallest size, where it is another than that of fewer steps."""
    sizes = {steps: smallest(kind, steps) for steps in STEPS}
    before = {steps: sizes[fewer] for fewer, steps in itertools.pairwise(STEPS)}
    return {steps: size for steps, size in sizes.items() if size != before.get(steps)}


def main() -> None:
    """Measure, print, and write."""
    torch.set_num_threads(1)
    choice.FORCED = "numba"
    table = {"cpu": {kind: row(kind) for kind in KINDS}}
    machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    versions = f"torch {torch.__version__}, numba {numba.__version__}"
    lines = f"# Written by benchmarks/choose_kernels.py on {machine}; {versions}\nSMALLEST = {table}\n".replace(
        "'", '"'
    )
    print(lines)
    if "--write" in sys.argv:
        path = Path(choice.__file__)
        text, count = re.subn(
            r"# Written by benchmarks/choose_kernels.*\nSMALLEST = .*\n", lambda _: lines, path.read_text()
        )
        assert count == 1, f"{path} has no table to be replaced"
        path.write_text(text)


if __name__ == "__main__":
    main()
