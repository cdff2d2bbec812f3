"""Random manifolds: classes are smooth surfaces in the space of spike times, drawn at random.

Reference: Zenke & Vogels, Neural Computation 33, 2021 ("The remarkable robustness of surrogate gradient learning").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError
from psu_deploy.models.arguments import check_sizes
from psu_deploy.training.data.drawn import ORDER, generator, size
from psu_deploy.training.samples import Samples, Split

_SMALLEST = 1e-3
"""Amplitude, of the first one, below which a wave is left out."""

_MOST = 1000
"""Waves, of a very rough manifold."""

_ROUNDING = 1e-9
_REFERENCE = 1000
"""Points of a manifold that say how far it reaches."""


@dataclass(frozen=True)
class RandomManifolds:
    """Every unit fires once; when it does, all units together are a point on the manifold of the class.

        f_i(u) = prod_d sum_k k^(-alpha) a_kid sin(2 pi (k u_d + b_kid)),   a, b uniform in [0, 1),   u in [0, 1)^D
        t_i = floor(T (f_i(u) - min f_i) / (max f_i - min f_i)),   cut to 0 .. T-1

    Minimum and maximum are those of 1000 points. How many spikes a unit has says nothing, only when they come. The
    larger alpha, the smoother the manifold and the easier the classes are to tell apart.

    Args:
        classes: number of manifolds.
        units: dimensions of the space that they lie in.
        dimensions: D, of a manifold.
        steps: T.
        alpha: smoothness, at least 0.5.
        samples: of the training split; validation and test have a quarter of them each.
        seed: of all draws.

    Raises:
        InputError: if a number is out of range.
    """

    classes: int
    units: int
    dimensions: int
    steps: int
    alpha: float
    samples: int
    seed: int

    def __post_init__(self) -> None:
        check_sizes(classes=self.classes, units=self.units, dimensions=self.dimensions)
        check_sizes(steps=self.steps, samples=self.samples)
        if not 0.5 <= self.alpha <= 100.0:
            raise InputError(f"alpha is a smoothness and must be from 0.5 to 100, got {self.alpha}")
        generator(self.seed)

    def read(self, split: Split, folder: Path | None) -> Samples:
        """Spikes (N, T, units) of bytes, and labels (N,)."""
        draw = generator(self.seed, 1 + ORDER.index(split))
        count = size(split, self.samples)
        labels = draw.integers(0, self.classes, count).astype(np.int64)
        points = draw.random((count, self.dimensions))
        spikes = np.zeros((count, self.steps, self.units), np.uint8)
        for label in range(self.classes):
            rows = np.flatnonzero(labels == label)
            times = self._times(label, points[rows])
            spikes[rows[:, None], times, np.arange(self.units)] = 1
        return Samples(spikes, labels)

    def _times(self, label: int, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Spike times (n, units) of points (n, D) on the manifold of a class."""
        draw = generator(self.seed, 0, label)
        waves = np.arange(1, min(_MOST, int(_SMALLEST ** (-1 / self.alpha) + _ROUNDING)) + 1)
        shape = (self.units, self.dimensions, len(waves))
        amplitudes, phases = draw.random(shape) * waves**-self.alpha, draw.random(shape)
        reference = draw.random((_REFERENCE, self.dimensions))
        reach = _surface(reference, amplitudes, phases)
        low, high = reach.min(0), reach.max(0)
        place = (_surface(points, amplitudes, phases) - low) / (high - low)
        times: NDArray[np.int64] = np.floor(self.steps * place).astype(np.int64)
        return times.clip(0, self.steps - 1)


def _surface(
    points: NDArray[np.float64], amplitudes: NDArray[np.float64], phases: NDArray[np.float64]
) -> NDArray[np.float64]:
    """f(u) of points (n, D) by waves (units, D, K): (n, units)."""
    value = np.ones((len(points), len(amplitudes)))
    turns = 2 * np.pi * np.arange(1, amplitudes.shape[2] + 1)
    for d in range(amplitudes.shape[1]):
        angles = points[:, d, None] * turns
        sines = amplitudes[:, d] * np.cos(2 * np.pi * phases[:, d])
        cosines = amplitudes[:, d] * np.sin(2 * np.pi * phases[:, d])
        value *= np.sin(angles) @ sines.T + np.cos(angles) @ cosines.T
    return value
