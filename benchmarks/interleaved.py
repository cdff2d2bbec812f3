"""Times several ways to do the same, side by side, and writes down what came out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles

import numpy as np

Step = Callable[[np.ndarray], object]
Times = dict[str, list[float]]
"""Name -> microseconds of a step, one number per round."""

PACKAGES = ("torch", "numpy", "onnxruntime", "snntorch", "spikingjelly", "norse")


def interleaved(steps: dict[str, Step], x: np.ndarray, rounds: int) -> Times:
    """Every way takes all steps of x, then the next one does, and so on round by round: drift hits all alike.

    In seconds of this process, so that other programs do not count: everything here runs on one thread.
    """
    times: Times = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            for x_t in x:
                step(x_t)
            if number:  # the first round warms up
                times[name].append((time.process_time() - start) / len(x) * 1e6)
    return times


def ratios(times: Times, slow: Sequence[str], fast: str) -> list[float]:
    """How many times as fast one way is as the best of others, round by round."""
    best = [min(several) for several in zip(*(times[name] for name in slow), strict=True)]
    return [a / b for a, b in zip(best, times[fast], strict=True)]


@dataclass(frozen=True)
class Line:
    """A row of the table: the median of some numbers, their middle half, and what it is to be."""

    what: str
    values: Sequence[float]
    unit: str = "x"
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        value = median(self.values)
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def cells(self) -> tuple[str, str, str, str]:
        low, _, high = quantiles(self.values, n=4) if len(self.values) > 1 else self.values * 3
        wanted = (
            f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}" if self.most is not None else ""
        )
        spread = f"{low:.3g} to {high:.3g}" if len(self.values) > 1 else ""
        return self.what, f"{median(self.values):.3g} {self.unit}", spread, wanted + ("" if self.holds else " (missed)")


@dataclass
class Page:
    """What is printed and written to a page of Markdown."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def table(self, title: str, rows: Sequence[Line]) -> None:
        self.say(f"\n## {title}\n\n| what | median | middle half | wanted |\n|---|---|---|---|")
        for row in rows:
            self.say(f"| {' | '.join(row.cells())} |")

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self.lines) + "\n", "utf-8")


def machine() -> str:
    """The processor, and the versions of what was compared."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return f"{processor}, {len(names)} cores; Python {platform.python_version()}, " + ", ".join(
        f"{name} {found}" for name in PACKAGES if (found := _version(name))
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
