"""A validation split for data sets that are published without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from psu_deploy.training.samples import Split

ONE_IN = 10
"""Of the samples of a class in the training split as it is published, the first, the eleventh, ... validate."""


def part(split: Split, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which samples of the published training split are ours to train with, or to validate.

    Every class is cut alike, in the order of the files, so the split depends on nothing but the data. The published
    test split stays whole, and is for the last number only.

    Args:
        split: "train" or "validation".
        labels: (N,) of the published training split.

    Returns:
        Indices into it, in its order.
    """
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.flatnonzero((rank % ONE_IN == 0) == (split == "validation"))
