"""The network of handwritten digits (8-128-128-10, 8 steps) on a Cortex-M4: flash, RAM, instructions of a step.

QEMU's board mps2-an386 counts instructions, not cycles: memory costs nothing there. RAM is the state with the room to
work in, an input, an output, and the stack as deep as it reached. GCC, -O2; newlib for what float32 calls of libm.

    scripts/arm && python -m benchmarks.cortex_m4 [--neuron rpsu|psu|lif ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from psu_deploy.text import columns
from tests.exporters.c.cortex_m4 import board, networks

TITLES = ("neuron", "numbers", "flash (B)", "RAM (B)", "of it stack", "instructions a step")
NEURONS = ("rpsu", "psu", "lif")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--neuron", nargs="+", default=NEURONS)
    arguments = parser.parse_args()
    if board.missing():
        sys.exit(f"{board.missing()} is not installed; scripts/arm installs it")
    print("\n".join(columns([TITLES, *figures(arguments.neuron)], left=2)))


def figures(neurons: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for every neuron and kind of numbers."""
    for neuron in neurons:
        machine = networks.machine(neuron)
        for form in networks.FORMS:
            with tempfile.TemporaryDirectory() as folder:
                seen = networks.deploy(machine, form, Path(folder)).board.measure()
            numbers = (seen.flash, seen.ram, seen.stack, seen.instructions)
            yield neuron, form, *(f"{number:,}" for number in numbers)


if __name__ == "__main__":
    main()
