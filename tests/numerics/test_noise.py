"""The counter-based noise against Python's own integers, and as a source of chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.numerics.noise import PRIME, uniform
from tests.helpers import noise

DOUBLE = torch.empty(0, dtype=torch.float64)
MANY = 1 << 16


@pytest.mark.parametrize("seed", [0, 1, 12345, PRIME - 1])
@pytest.mark.parametrize("step", [0, 1, 62, 10**6])
@pytest.mark.parametrize("features", [(), (1,), (7,), (2, 3, 4)])
def test_equals_pythons_integers(seed, step, features):
    drawn = uniform(seed, step, 3, features, like=DOUBLE)
    assert drawn.shape == (3, *features)
    np.testing.assert_array_equal(drawn, noise(seed, (1, 3, *features), step)[0])


def test_a_sample_does_not_depend_on_how_many_follow():
    assert torch.equal(uniform(4, 2, 5, (3, 2), like=DOUBLE)[:2], uniform(4, 2, 2, (3, 2), like=DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lies_in_zero_to_one(dtype):
    drawn = uniform(0, 0, 1, (1_000_000,), like=torch.empty(0, dtype=dtype))
    assert drawn.dtype == dtype
    assert 0 <= float(drawn.min()) < 1e-4
    assert 1 - 1e-4 < float(drawn.max()) < 1


def test_the_largest_numbers_are_not_rounded_up_to_one():
    """Neuron 1646669 draws a number that float32 cannot tell from 1; a probability of 1 must fire all the same."""
    first = 1_646_000
    drawn = uniform(4, 0, 1, (1_647_000,), like=torch.empty(0))[0, first:]
    assert float(drawn.max()) < 1


def chi_square(*columns, bins):
    """Counts of the joint bins against the same count everywhere, in standard deviations from what is expected."""
    cells = np.zeros(len(columns[0]), int)
    for column in columns:
        cells = cells * bins + (np.asarray(column).ravel() * bins).astype(int)
    freedom, expected = bins ** len(columns) - 1, len(cells) / bins ** len(columns)
    counts = np.bincount(cells, minlength=freedom + 1)
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def draw(seed=0, step=0):
    return uniform(seed, step, 1, (MANY,), like=DOUBLE)[0]


PAIRS = {
    "seeds": lambda: (draw(seed=0), draw(seed=1)),
    "distant seeds": lambda: (draw(seed=7), draw(seed=1_000_007)),
    "steps": lambda: (draw(step=0), draw(step=1)),
    "steps of another seed": lambda: (draw(seed=3, step=40), draw(seed=3, step=41)),
    "step and seed exchanged": lambda: (draw(seed=2, step=1), draw(seed=1, step=2)),
    "step and seed of one sum": lambda: (draw(seed=1, step=0), draw(seed=0, step=1)),
    "neurons": lambda: (draw()[:-1], draw()[1:]),
    "neurons far apart": lambda: (draw()[:-1024], draw()[1024:]),
    "one neuron at all steps": lambda: (_steps_of_one()[:-1], _steps_of_one()[1:]),
}


def _steps_of_one():
    return np.array([float(uniform(5, t, 1, (1,), like=DOUBLE)) for t in range(4096)])


@pytest.mark.full
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_is_uniform_and_independent(pair):
    """Chi-square of 8 x 8 joint bins and of 32 bins alone: within 5 standard deviations."""
    first, second = pair()
    assert abs(chi_square(first, second, bins=8)) < 5
    assert abs(chi_square(first, bins=32)) < 5
    assert abs(chi_square(second, bins=32)) < 5


def test_three_in_a_row():
    assert abs(chi_square(draw()[:-2], draw()[1:-1], draw()[2:], bins=6)) < 5
