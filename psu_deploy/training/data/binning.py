"""Events in time -> counts per step, in two ways.

    "paper"     T bins between the first and the last event: every recording has its own width, and nobody knows it
                before the recording is over. What the authors of arXiv 2402.00449 train on.
    "causal"    T bins of the same width from the start of the recording: a live sensor can count like that.

What comes after the last bin is dropped: with "paper" the remainder of the division, up to T - 1 microseconds and the
last event itself; with "causal" whatever is later than T widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_sizes

BINNINGS = ("paper", "causal")

NOT_STREAMABLE = (
    "binning='paper' cuts a recording between its first and its last event, which a live sensor cannot know; "
    "binning='causal' has bins of a fixed width"
)


class CrowdedError(Exception):
    """More events in one place and step than are counted; the message says how many."""


@dataclass(frozen=True)
class Events:
    """One recording.

    Args:
        times: (n,) whole microseconds, in any order.
        places: (n,) where each event was: numbers from 0, of the flattened sensor.
    """

    times: NDArray[np.int64]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Binning:
    """How events become steps. Validated when made.

    Args:
        kind: "paper" or "causal".
        steps: T.
        bin_ms: width of a "causal" bin in milliseconds; "paper" has no use for it.

    Raises:
        InputError: if there is no such kind, or a number is out of range.
    """

    kind: str
    steps: int
    bin_ms: float

    def __post_init__(self) -> None:
        if self.kind not in BINNINGS:
            raise InputError(f"binning must be one of {', '.join(BINNINGS)}, got {self.kind!r}")
        check_sizes(steps=self.steps)
        if not 0.001 <= self.bin_ms < 1e9:
            raise InputError(f"bin_ms is a width in milliseconds and must be at least 0.001, got {self.bin_ms}")

    @property
    def width(self) -> int:
        """Of a "causal" bin, in microseconds."""
        return round(1000 * self.bin_ms)

    @property
    def options(self) -> dict[str, int | str]:
        """All that the counts depend on."""
        depends: dict[str, int | str] = {"binning": self.kind, "steps": self.steps}
        return depends | {"width": self.width} if self.kind == "causal" else depends

    @property
    def not_streamable(self) -> str | None:
        """Why a live sensor could not count like that."""
        return NOT_STREAMABLE if self.kind == "paper" else None

    def counts(self, events: Events, size: int, kind: type[np.unsignedinteger] = np.uint8) -> NDArray[Any]:
        """How many events every place has at every step, (T, size).

            paper     k = floor((t - t_first) / w),   w = floor((t_last - t_first) / T)
            causal    k = floor(t / w)

        A recording shorter than T microseconds has no bins, w = 0, and no counts.

        Args:
            events: of one recording.
            size: number of places.
            kind: of the counts.

        Raises:
            CrowdedError: if there are more than such a number holds.
        """
        times, width = events.times, self.width
        if self.kind == "paper":
            first, last = (times.min(), times.max()) if len(times) else (0, 0)
            times, width = times - first, int(last - first) // self.steps
        step = times // width if width else np.full_like(times, self.steps)
        inside = (step >= 0) & (step < self.steps)
        counted = np.bincount(step[inside] * size + events.places[inside], minlength=self.steps * size)
        most = np.iinfo(kind).max
        if counted.max() > most:
            raise CrowdedError(f"{counted.max()} events in one place and one step, at most {most} are counted")
        return counted.astype(kind).reshape(self.steps, size)
