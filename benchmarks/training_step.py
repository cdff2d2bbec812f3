"""Time of a training step of one neuron layer, forward and backward: ours against the T x T product and SpikingJelly.

Sequences are (T, 32, 512) float32. All neurons run in this process, interleaved round by round; a ratio is the median
of the ratios of the rounds, so that the machine's drift cancels. More than 1 means that ours is faster. One thread is
timed in CPU seconds, so that other programs do not count; several threads, and a GPU, by the clock.

    python benchmarks/training_step.py [--rounds 7] [--steps 1024] [--lengths 4 16 64 256 1024] [--threads 2]
                                       [--rows PSU LIF] [--long] [--figure] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from authors import (
    TAU,
    THRESHOLD,
    DenseIPSU,
    DensePPSU,
    DensePSN,
    DensePSU,
    DenseRPSU,
    jelly_lif,
    jelly_sliding,
)
from timing import Floor, Make, Times, Training, rounds_of

import psu_deploy as psu

LENGTHS = (4, 16, 64, 256, 1024)
LONG, AGAINST = 4096, 1024

NEURONS: dict[str, Make] = {
    "T x T PSU": lambda T: DensePSU(T, learned=False),
    "T x T IPSU": lambda T: DenseIPSU(T, learned=True),
    "T x T PPSU": lambda T: DensePPSU(T, learned=True),
    "T x T RPSU": lambda T: DenseRPSU(T, learned=True),
    "T x T": DensePSN,
    "SpikingJelly LIF": jelly_lif,
    "SpikingJelly SlidingPSN": jelly_sliding,
    "PSU": lambda _: psu.PSU(TAU, THRESHOLD),
    "LIF": lambda _: psu.LIF(TAU, THRESHOLD, reset="soft"),
    "SPSN": lambda _: psu.SPSN(TAU),
    "IPSU": lambda T: psu.IPSU(T, TAU, THRESHOLD, bias=True),
    "IPSU as coded": lambda T: psu.IPSU(
        T, TAU, THRESHOLD, decay=1 / TAU, bias=True, reset_input="current", reset_gain=1.0, fire_on=">", init="kaiming"
    ),
    "PPSU": lambda T: psu.PPSU(T, TAU, THRESHOLD, bias=True),
    "RPSU": lambda T: psu.RPSU(T, TAU, THRESHOLD, bias=True),
    "RPSU, 4 exponentials": lambda T: psu.RPSU(T, TAU, THRESHOLD, bias=True, temporal="exponentials", terms=4),
    "PSU, Staircase(15)": lambda _: psu.PSU(TAU, THRESHOLD, estimator=psu.Staircase(15)),
    "SlidingPSN": lambda T: psu.SlidingPSN(min(32, T)),
    "MaskedPSN": psu.MaskedPSN,
}
"""Name -> the neuron for T steps; None where its package is not installed."""

OURS = tuple(NEURONS)[tuple(NEURONS).index("PSU") :]

LEAKY = ("PSU", "LIF", "SPSN", "SlidingPSN", "RPSU, 4 exponentials", "PSU, Staircase(15)")
"""Those that run for any number of steps at the same cost of each."""


@dataclass(frozen=True)
class Row:
    """The time of the fastest of `theirs` over that of ours, and what it is to be at each of `LENGTHS` at least."""

    theirs: tuple[str, ...]
    ours: str
    least: tuple[float, ...] = ()

    def __str__(self) -> str:
        theirs = self.theirs[0] if len(self.theirs) == 1 else f"best of {', '.join(self.theirs)}"
        return f"{theirs} / our {self.ours}"


ROWS = (
    Row(("T x T PSU",), "PSU", (1.3, 2.5, 4, 6, 8)),
    Row(("SpikingJelly LIF", "LIF"), "PSU", (2, 3, 4, 4, 4)),
    Row(("SpikingJelly LIF",), "LIF", (2, 2, 3, 3, 3)),
    Row(("T x T RPSU",), "RPSU", (1.1, 1.3, 1.5, 1.5, 1.5)),
    Row(("SpikingJelly SlidingPSN",), "SlidingPSN", (1.2, 1.2, 1.5, 2, 4)),
    Row(("T x T IPSU",), "IPSU as coded", (1, 1, 1, 1, 1)),
    Row(("T x T PPSU",), "PPSU", (1, 1, 1, 1, 1)),
    Row(("T x T RPSU",), "RPSU, 4 exponentials", (1, 1, 1, 1, 1)),
    Row(("T x T PSU",), "PSU, Staircase(15)", (1, 1, 1, 1, 1)),
    Row(("T x T",), "MaskedPSN", (1, 1, 1, 1, 1)),
)


def ratio(times: Times, row: Row) -> float | None:
    """Median over the rounds; None where one of them is not installed."""
    if not all(name in times for name in (*row.theirs, row.ours)):
        return None
    theirs = [min(several) for several in zip(*(times[name] for name in row.theirs), strict=True)]
    return median(a / b for a, b in zip(theirs, times[row.ours], strict=True))


def table(title: str, columns: Sequence[object], rows: dict[str, Sequence[str]]) -> None:
    """Print a table of Markdown."""
    print(f"\n| {title} | {' | '.join(map(str, columns))} |\n|{'---|' * (len(columns) + 1)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def _cell(value: float | None, least: float | None) -> str:
    if value is None:
        return "not installed"
    return f"{value:.2f}x" + ("" if least is None or value >= least else f" (< {least:g})")


def compare(given: argparse.Namespace) -> dict[str, object]:
    """The tables of all lengths."""
    rows = [row for row in ROWS if not given.rows or row.ours in given.rows]
    names = {name for row in rows for name in (*row.theirs, row.ours)}
    makers: dict[str, Make] = {name: make for name, make in NEURONS.items() if name in names}
    if given.device == "cuda":
        makers["floor: bytes read and written"] = lambda _: Floor()
    measured = {T: rounds_of(makers, T, given.rounds, given.steps, given.device) for T in given.lengths}
    ratios = {str(row): [ratio(measured[T][0], row) for T in given.lengths] for row in rows}
    least = {str(row): [dict(zip(LENGTHS, row.least, strict=True)).get(T) for T in given.lengths] for row in rows}
    cells = {row: list(map(_cell, values, least[row])) for row, values in ratios.items()}
    milliseconds = {n: [median(measured[T][0][n]) for T in given.lengths] for n in measured[given.lengths[0]][0]}
    kept = {n: [measured[T][1][n] for T in given.lengths] for n in milliseconds if n in OURS}
    columns = [f"T = {T}" for T in given.lengths]
    table("forward + backward, (T, 32, 512) float32", columns, cells)
    table("ms", columns, {n: [f"{v:.2f}" for v in values] for n, values in milliseconds.items()})
    table("kept for backward / input", columns, {n: [f"{v:.2f}" for v in values] for n, values in kept.items()})
    return {"lengths": given.lengths, "ratios": ratios, "milliseconds": milliseconds, "kept": kept}


def compare_threads(given: argparse.Namespace) -> dict[str, float]:
    """Time with one thread over time with several, of our neurons, round by round."""
    gains: dict[str, list[float]] = {}
    for T in given.lengths:
        torch.manual_seed(0)
        for name in given.rows or OURS:
            neuron = NEURONS[name](T)
            assert neuron is not None
            one, pairs = Training(neuron, T, given.device), []
            one.step()
            for _ in range(given.rounds):
                torch.set_num_threads(1)
                alone = one.milliseconds(max(1, given.steps // T))
                torch.set_num_threads(given.threads)
                pairs.append(alone / one.milliseconds(max(1, given.steps // T)))
            torch.set_num_threads(1)
            gains.setdefault(name, []).append(median(pairs))
    columns = [f"T = {T}" for T in given.lengths]
    table(f"one thread / {given.threads}", columns, {n: [f"{v:.2f}x" for v in vs] for n, vs in gains.items()})
    return {f"{name}, T = {T}": v for name, vs in gains.items() for T, v in zip(given.lengths, vs, strict=True)}


def compare_long(given: argparse.Namespace) -> dict[str, float]:
    """Cost of a step at T = 4096 over that at T = 1024."""
    costs = {}
    for name in (n for n in LEAKY if not given.rows or n in given.rows):
        times = {
            T: rounds_of({name: NEURONS[name]}, T, given.rounds, given.steps, given.device)[0][name]
            for T in (AGAINST, LONG)
        }
        costs[name] = median(times[LONG]) / LONG / (median(times[AGAINST]) / AGAINST)
    table(f"cost of a step, T = {LONG} / T = {AGAINST}", ["ratio"], {n: [f"{v:.2f}x"] for n, v in costs.items()})
    return costs


def redraw_figure(given: argparse.Namespace) -> dict[str, list[float]]:
    """Fig. 4 of arXiv 2402.00449: time of the serial LIF over that of the PSU, by the number of steps."""
    lengths = (4, 8, 16, 32, 64)
    wanted: dict[str, Make] = {name: NEURONS[name] for name in ("SpikingJelly LIF", "T x T PSU", "PSU")}
    times = {T: rounds_of(wanted, T, given.rounds, given.steps, given.device)[0] for T in lengths}
    series = {n: [median(times[T][n]) for T in lengths] for n in times[4]}
    most = max(max(values) for values in series.values())
    print("\nFig. 4: ms per step of training, by T")
    for name, values in series.items():
        for T, value in zip(lengths, values, strict=True):
            print(f"{name:>18} {T:3d} {value:9.3f} {'#' * max(1, round(60 * value / most))}")
    return series


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1024, help="time steps per round: 1024 / T training steps")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rows", nargs="+", choices=OURS, help="our neurons to measure; all unless given")
    parser.add_argument("--threads", type=int, default=1, help="compare so many with one")
    parser.add_argument("--long", action="store_true", help=f"cost of a step at T = {LONG} against T = {AGAINST}")
    parser.add_argument("--figure", action="store_true", help="Fig. 4 of the paper")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    parts: dict[str, Callable[[argparse.Namespace], object]] = {"table": compare}
    parts |= {"threads": compare_threads} if given.threads > 1 else {}
    parts |= {"long": compare_long} if given.long else {}
    parts |= {"figure": redraw_figure} if given.figure else {}
    results = {name: part(given) for name, part in parts.items()}
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
