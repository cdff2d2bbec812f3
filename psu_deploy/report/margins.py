"""The margins of one layer's decisions, counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LOWEST, HIGHEST, PER_DECADE = -16, 4, 5
"""Powers of ten of the smallest and the largest margin that are told apart, and bins from one power to the next."""

BINS = (HIGHEST - LOWEST) * PER_DECADE


class Closest(NamedTuple):
    """The decision whose margin is the smallest multiple of its bound.

    Attributes:
        t: time step, from 0.
        sample: index in the batch.
        neuron: index in the layer's features.
        margin: V - R - threshold in exact arithmetic.
        bound: how far rounding can move it.
    """

    t: int
    sample: int
    neuron: tuple[int, ...]
    margin: float
    bound: float

    @property
    def times(self) -> float:
        """|margin| / bound; infinite where rounding moves nothing."""
        if not math.isfinite(self.bound):
            return 0.0
        return abs(self.margin) / self.bound if self.bound else math.inf if self.margin else 0.0


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


@dataclass
class Margins:
    """Of one layer, part of a batch by part.

    Attributes:
        decisions: how many there were.
        certified: of them, how many have |margin| > bound.
        closest: the one nearest to its bound.
        sure: |margin| of the certified ones, counted in bins of equal width in log10.
        open: |margin| of the others, in the same bins.
        bounds: smallest and largest bound.
    """

    decisions: int = 0
    certified: int = 0
    closest: Closest | None = None
    sure: NDArray[np.int64] = field(default_factory=_no_counts)
    open: NDArray[np.int64] = field(default_factory=_no_counts)
    bounds: tuple[float, float] = (math.inf, 0.0)

    @property
    def share(self) -> float:
        """Of the decisions that are certified."""
        return self.certified / max(1, self.decisions)

    def add(self, start: int, margin: Tensor, bound: Tensor) -> None:
        """Count a part: samples from `start` on, both (T, B, *features)."""
        size = margin.abs()
        sure = size > bound
        bins = _bins(size)
        self.decisions += sure.numel()
        self.certified += int(sure.sum())
        self.sure += _counts(bins[sure.flatten()])
        self.open += _counts(bins[~sure.flatten()])
        self.bounds = (min(self.bounds[0], float(bound.min())), max(self.bounds[1], float(bound.max())))
        (found,) = closest(margin, bound, 1)
        if self.closest is None or found.times < self.closest.times:
            self.closest = found._replace(sample=found.sample + start)


def closest(margin: Tensor, bound: Tensor, count: int) -> list[Closest]:
    """The decisions nearest to their bounds, nearest first, each of another neuron."""
    times = torch.nan_to_num(margin.abs() / bound, nan=0.0, posinf=torch.inf)
    nearest, rows = times.flatten(2).flatten(0, 1).min(0)
    places = torch.topk(nearest, min(count, len(nearest)), largest=False).indices
    found = []
    for place in places.tolist():
        t, sample = divmod(int(rows[place]), margin.shape[1])
        neuron = tuple(int(i) for i in np.unravel_index(place, margin.shape[2:]))
        at = (t, sample, *neuron)
        found.append(Closest(t, sample, neuron, float(margin[at]), float(bound[at])))
    return found


def _bins(size: Tensor) -> Tensor:
    """Bin of every |margin|; zero is in the lowest."""
    return ((size.flatten().log10() - LOWEST) * PER_DECADE).clamp(0, BINS - 1).long()


def _counts(bins: Tensor) -> Any:
    return torch.bincount(bins, minlength=BINS).numpy()
