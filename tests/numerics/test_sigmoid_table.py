"""The sigmoid in whole numbers: against the definition in Python's own integers, and against the sigmoid itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

from psu_deploy.numerics import sigmoid_table
from psu_deploy.numerics.sigmoid_table import integer_sigmoid, knots, sup_error

EVERY = np.arange(-8192, 8192)


def by_definition(z: int) -> int:
    """Clip, split in piece and rest, and go along the piece; `//` rounds down, as a shift does."""
    piece, along = divmod(min(max(z, -8192), 8191) + 8192, 256)
    ends = [round(4096 / (1 + math.exp(8 - i / 4))) for i in (piece, piece + 1)]
    return ends[0] + (ends[1] - ends[0]) * along // 256


def test_the_numbers_of_the_format():
    found = (sigmoid_table.VALUE_BITS, sigmoid_table.ARGUMENT_BITS, sigmoid_table.LIMIT, sigmoid_table.KNOT_SHIFT)
    assert found == (12, 10, 8, 8)


def test_the_knots():
    """Some by hand; the others by symmetry: sigmoid(-x) = 1 - sigmoid(x)."""
    values = knots()
    assert values.dtype == np.int64
    assert values.shape == (65,)
    assert values[[0, 16, 28, 31, 32, 33, 36, 64]].tolist() == [1, 74, 1102, 1793, 2048, 2303, 2994, 4095]
    np.testing.assert_array_equal(values + values[::-1], 4096)


def test_every_argument():
    found = integer_sigmoid(EVERY)
    assert found.dtype == np.int64
    assert found.tolist() == [by_definition(z) for z in EVERY.tolist()]


@pytest.mark.parametrize("z", [-8193, -(2**23), -(2**62), 8192, 2**23, 2**62])
def test_beyond_the_table_its_ends_hold(z):
    assert integer_sigmoid(np.array([z])).tolist() == [1 if z < 0 else 4094]


def test_any_shape():
    assert integer_sigmoid(np.zeros((2, 3), np.int64)).tolist() == [[2048] * 3] * 2
    assert integer_sigmoid(np.zeros((0,), np.int64)).shape == (0,)


def test_it_never_falls_and_is_a_half_in_silence():
    found = integer_sigmoid(EVERY)
    assert (np.diff(found) >= 0).all()
    assert (found.min(), found.max()) == (1, 4094)
    assert found[8192] == 2048
    assert found[8191] == 2047


def test_distance_to_the_sigmoid():
    """On a grid four times as fine as the table, at both ends of every step, and far in the tails."""
    E = np.concatenate([np.arange(-50_000, 50_000) / 4096, np.nextafter(EVERY / 1024, -np.inf), [-np.inf, np.inf]])
    found = integer_sigmoid(np.floor(np.clip(E, -1e9, 1e9) * 1024).astype(np.int64)) / 4096
    distance = np.abs(found - scipy.special.expit(E))
    assert sup_error() == pytest.approx(distance.max(), rel=1e-9)
    assert sup_error() < 0.0012
    assert distance[np.abs(E) >= 8].max() < 5e-4
    assert np.abs(found[-2:] - [0, 1]).tolist() == [1 / 4096, 2 / 4096]


def test_the_values_are_exact_and_nobody_can_change_them():
    assert sigmoid_table.VALUES.dtype == np.float32
    assert (sigmoid_table.VALUES.astype(np.float64) * 4096).tolist() == [by_definition(z) for z in EVERY.tolist()]
    with pytest.raises(ValueError, match="read-only"):
        sigmoid_table.VALUES[0] = 0
