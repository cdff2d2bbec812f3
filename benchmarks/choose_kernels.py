"""From which size on a neuron runs fused: measures both ways; writes the table in psu_deploy/nn/kernels/choice.py.

    python benchmarks/choose_kernels.py                         # prints
    python benchmarks/choose_kernels.py --write                 # and writes
    python benchmarks/choose_kernels.py --device cuda --write   # the rows of a GPU

Forward and backward, one thread; on a CPU the time is that of the processor, so other work on the machine matters
little, on a GPU that of the clock.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import re
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.nn import kernels
from psu_deploy.nn.kernels import choice
from psu_deploy.nn.temporal import Exponentials

STEPS = (1, 2, 4, 8, 16)
SIZES = {"cpu": tuple(1 << power for power in range(12, 17)), "cuda": tuple(1 << power for power in range(0, 21, 4))}
"""With fewer numbers a process spends longer on loading Numba, a second or two, than it saves in a thousand batches."""

KINDS = {
    "spiking_unit": psu.PSU,
    "lif": psu.LIF,
    "exponentials": lambda: Exponentials.near_leak(4, 0.5, 0.5),
}


def seconds(neuron: nn.Module, x: torch.Tensor, g: torch.Tensor) -> float:
    """Forward and backward."""
    clock = on_gpu if x.is_cuda else time.thread_time
    before = clock()
    neuron(x).backward(g)
    return clock() - before


def on_gpu() -> float:
    """The time when all is done that a GPU was asked for."""
    torch.cuda.synchronize()
    return time.perf_counter()


def ratio(neuron: nn.Module, steps: int, size: int, device: str) -> float:
    """Time step by step over time in one pass, the median of pairs."""
    x, g = torch.randn(2, steps, max(1, size // steps), device=device)[:, :, None]
    x.requires_grad_()
    pairs = []
    for _ in range(25):
        fused = seconds(neuron, x, g)
        with kernels.step_by_step():
            pairs.append(seconds(neuron, x, g) / fused)
    return statistics.median(pairs[5:])


def smallest(kind: str, steps: int, device: str) -> int:
    """The smallest size from which on one pass is faster."""
    sizes = SIZES[device]
    neuron, found = KINDS[kind]().to(device), sizes[-1]
    for size in reversed(sizes):
        faster = ratio(neuron, steps, size, device)
        print(f"{kind:13} T={steps:<4} {size:6} numbers: {faster:.1f}x", flush=True)
        if faster < 1:
            break
        found = size
    return found


def row(kind: str, device: str) -> dict[int, int]:
    """Steps -> smallest size, where it is another than that of fewer steps."""
    sizes = {steps: smallest(kind, steps, device) for steps in STEPS}
    before = {steps: sizes[fewer] for fewer, steps in itertools.pairwise(STEPS)}
    return {steps: size for steps, size in sizes.items() if size != before.get(steps)}


def written(device: str, table: dict[str, dict[int, int]]) -> tuple[str, str]:
    """The pattern of a device's lines in choice.py, and what they are now."""
    machine = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}"
    by = f"numba {version('numba')}"
    pattern, line = r"# .*\nSMALLEST = .*\n", f"SMALLEST = {{'cpu': {table}}}"
    if device == "cuda":
        machine = f"{torch.cuda.get_device_name()}; torch {torch.__version__}"
        by = f"triton {version('triton')}"
        pattern, line = r'# .*\nSMALLEST\["cuda"\] = .*\n', f"SMALLEST['cuda'] = {table}"
    return pattern, f"# Written by benchmarks/choose_kernels.py on {machine}, {by}\n{line}\n".replace("'", '"')


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choice.FORCED = "numba"
    pattern, lines = written(arguments.device, {kind: row(kind, arguments.device) for kind in KINDS})
    print(lines)
    if arguments.write:
        path = Path(choice.__file__)
        text, count = re.subn(pattern, lambda _: lines, path.read_text())
        assert count == 1, f"{path} has no table to be replaced"
        path.write_text(text)


if __name__ == "__main__":
    main()
