"""The digits of scikit-learn as sequences: 1797 images of 8 x 8 pixels, one column per time step.

Which image is in which split never depends on a training seed: accuracies of different runs are about the same images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import require
from psu_deploy.training.samples import Arrays, Split

TEST_SIZE = 360
VALIDATION_SIZE = 180
_SPLIT_SEED = 2402
_BRIGHTEST = 16.0


def digits(split: Split) -> Arrays:
    """The images of one split as sequences, with their labels.

        x[t, n, i] = pixel in row i, column t of image n, scaled from 0..16 to 0..1

    Args:
        split: "train" (1257 images), "validation" (180) or "test" (360).

    Returns:
        x (T = 8, N, 8) float32 and labels (N,) int64.
    """
    images, labels = _load()
    chosen = _split(labels)[split]
    return to_sequences(images[chosen]), labels[chosen]


def digit_indices() -> dict[Split, NDArray[np.int64]]:
    """Which images of `sklearn.datasets.load_digits` are in which split, stratified by class."""
    return _split(_load()[1])


def to_sequences(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images (N, 8, 8) with pixels 0..16 -> sequences (T = 8, N, 8) with pixels 0..1, time = column, left to right."""
    scaled = images.astype(np.float32) / np.float32(_BRIGHTEST)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    bunch = require("sklearn.datasets", extra="train").load_digits()
    return bunch.images, bunch.target.astype(np.int64)


def _split(labels: NDArray[np.int64]) -> dict[Split, NDArray[np.int64]]:
    cut = require("sklearn.model_selection", extra="train").train_test_split
    rest, test = cut(np.arange(len(labels)), test_size=TEST_SIZE, stratify=labels, random_state=_SPLIT_SEED)
    train, validation = cut(rest, test_size=VALIDATION_SIZE, stratify=labels[rest], random_state=_SPLIT_SEED)
    return {"train": train, "validation": validation, "test": test}
