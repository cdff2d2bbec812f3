"""The estimators of a spike: pointwise functions between two causal operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Array, finite, freeze


class Estimator:
    """Base of the estimators: a pointwise function of E, without state."""


@dataclass(frozen=True, eq=False)
class Sigmoid(Estimator):
    """Estimated spike `S' = 1 / (1 + exp(-E))`. Not zero in silence: sigmoid(0) = 0.5."""


@dataclass(frozen=True, eq=False)
class RawCurrent(Estimator):
    """No estimate: what enters the reset is E itself (IPSU as the authors coded it)."""


@dataclass(frozen=True, eq=False)
class Staircase(Estimator):
    """A sigmoid in steps: `S' = offset + height * #{k : E >= thresholds[k]}`.

    Args:
        thresholds: (K,), rising.
        height: of every step.
        offset: S' below the first threshold.
    """

    thresholds: Array
    height: float
    offset: float

    def __post_init__(self) -> None:
        freeze(self, "thresholds", 1)
        finite(self, "height", "offset")
        if not len(self.thresholds) or (np.diff(self.thresholds) <= 0).any():
            raise InputError(f"Staircase.thresholds must be one or more rising numbers, got {self.thresholds}")


@dataclass(frozen=True, eq=False)
class SigmoidTable(Estimator):
    """A sigmoid in whole numbers: `S' = integer_sigmoid(floor(1024 E)) / 4096`.

    See `psu_deploy.numerics.sigmoid_table`.
    """
