"""What a data set gives: samples as they are stored, split by split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError

Split = Literal["train", "validation", "test"]
Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]
"""x (T, N, *features) and labels (N,)."""


@dataclass(frozen=True)
class Samples:
    """The samples of one split, one row each, as they are stored: `Task.encode` makes sequences of them.

    Args:
        inputs: (N, ...) of any type; a memory map will do, only the rows of a batch are read.
        labels: (N,) whole numbers from 0.

    Raises:
        InputError: if there is none, there are more labels than inputs, or fewer, or they are no arrays of numbers.

    >>> len(Samples(np.zeros((3, 8, 1), np.float32), np.array([0, 1, 1])))
    3
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for array in (self.inputs, self.labels):
            _check_array(array)
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise InputError(f"labels are whole numbers (N,), got {self.labels.dtype} of shape {self.labels.shape}")
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))
        if len(self.inputs) != len(self.labels):
            raise InputError(
                f"every sample has one label, got {len(self.inputs)} samples and {len(self.labels)} labels"
            )
        if not len(self.labels):
            raise InputError("a split needs at least one sample, got none")

    def __len__(self) -> int:
        return len(self.labels)


def _check_array(array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(f"samples and labels are numpy arrays, got {type(array).__name__}")
