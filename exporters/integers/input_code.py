"""How real input becomes whole numbers: what the code follows from, and the numbers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError
from psu_deploy.exporters.integers.network import InputCode, IntegerNetwork, Integers

LEVELS = 255
"""Steps of the input to either side, where it lies on no grid."""

_FINEST_GRID = 2.0**-8
INPUT_RANGES = ("max", "percentile")
_PERCENTILE = 99.9


@dataclass(frozen=True)
class Calibration:
    """What typical input tells about the numbers at the input: all that its code follows from.

    Attributes:
        input_range: "max": the largest magnitude met is the last step; "percentile": the 99.9th percentile is, and what
            lies beyond is clipped.
        largest: that magnitude.
        grid: the coarsest power of two, from 1 down, of which all numbers are multiples; None = they are not of any.
        negative: whether there are numbers below zero.
        steps: length of the data.
    """

    input_range: str
    largest: float
    grid: float | None
    negative: bool
    steps: int


def calibrated(x: NDArray[Any], input_range: str) -> Calibration:
    """What calibration data (T, B, *features) tell.

    Raises:
        InputError: if there is no such input_range.
    """
    if input_range not in INPUT_RANGES:
        raise InputError(f"input_range must be one of {', '.join(INPUT_RANGES)}, got {input_range!r}")
    size = np.abs(x.astype(np.float64))
    most = float(size.max() if input_range == "max" else np.percentile(size, _PERCENTILE) or size.max())
    grid = 1.0
    while grid > _FINEST_GRID and (np.rint(x / grid) != x / grid).any():
        grid /= 2
    on_grid = bool((np.rint(x / grid) == x / grid).all())
    return Calibration(input_range, most, grid if on_grid else None, bool((x < 0).any()), len(x))


def code_of(calibration: Calibration) -> InputCode:
    """How such input becomes whole numbers: exactly where it lies on a grid, else in 255 steps to either side."""
    most, grid = calibration.largest, calibration.grid
    unit = grid if grid is not None and most / grid <= LEVELS else most / LEVELS
    levels = max(1, round(most / unit))
    return InputCode(unit, -levels if calibration.negative else 0, levels)


def encode(network: IntegerNetwork, x: NDArray[Any]) -> Integers:
    """Real input (T, B, *features) as whole numbers (T, B, *input_shape): `clip(rint(x / unit), low, high)`."""
    code = network.code
    numbers = np.clip(np.rint(x.astype(np.float64) / code.unit), code.low, code.high).astype(np.int64)
    return numbers.reshape(*x.shape[:2], *network.input_shape)


def clipped_share(network: IntegerNetwork, x: NDArray[Any]) -> float:
    """Share of a real input that lies beyond the range its code has: these numbers are cut."""
    numbers = np.rint(x.astype(np.float64) / network.code.unit)
    return float(((numbers < network.code.low) | (numbers > network.code.high)).mean())
