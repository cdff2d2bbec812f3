"""The sigmoid in steps, as plain numbers: shared by what trains with it and what deploys it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAR_ZERO = 0.001
"""The threshold that would be 0, where silence, E = 0, would be a tie. No sum of short dyadic numbers meets it."""


class Steps(NamedTuple):
    """`S' = offset + height * #{k : E >= thresholds[k]}`; thresholds are float32 numbers in float64."""

    thresholds: NDArray[np.float64]
    height: float
    offset: float

    @property
    def sup_error(self) -> float:
        """The largest distance to the sigmoid; it is reached at the end of a step."""
        ends = np.concatenate([[0.0], 1 / (1 + np.exp(-self.thresholds)), [1.0]])
        values = self.offset + self.height * np.arange(len(self.thresholds) + 1)
        return float(max(np.abs(values - ends[:-1]).max(), np.abs(values - ends[1:]).max()))


def sigmoid_steps(levels: int) -> Steps:
    """K steps of equal height: `height = 1/(K+1)`, `offset = height/2`, `thresholds[k] = logit(k/(K+1))`, k = 1..K.

    No staircase of K steps is closer to the sigmoid: nowhere is it off by more than `1/(2(K+1))`. Where K is odd the
    middle threshold would be exactly 0, where silence is: it is moved to 0.001, which costs 2.5e-4 more.
    """
    share = np.arange(1, levels + 1) / (levels + 1)
    exact = np.where(share == 0.5, NEAR_ZERO, np.log(share / (1.0 - share)))
    return Steps(exact.astype(np.float32).astype(np.float64), 1.0 / (levels + 1), 0.5 / (levels + 1))
