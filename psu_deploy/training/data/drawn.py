"""Splits of data that are drawn and not read: as many samples as wanted, the same ones for the same seed."""

from __future__ import annotations

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.training.samples import Split

ORDER: tuple[Split, ...] = ("train", "validation", "test")
HELD_OUT = 4
"""The training split has so many times the samples of the validation split, and of the test split."""

_LARGEST_SEED = 2**32 - 1


def generator(seed: int, *which: int) -> np.random.Generator:
    """A generator of its own for every purpose: another seed or another number gives other numbers.

    Raises:
        InputError: if the seed is out of range.
    """
    if not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {_LARGEST_SEED}, got {seed}")
    return np.random.default_rng((seed, *which))


def size(split: Split, samples: int) -> int:
    """Number of samples of a split, of a data set with so many samples to train with."""
    return samples if split == "train" else -(-samples // HELD_OUT)
