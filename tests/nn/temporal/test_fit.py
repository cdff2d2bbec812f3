"""The sum of exponentials closest to a matrix: exact ones are found, and no other fit of the same decays is closer."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from psu_deploy.errors import InputError, MissingExtraError
from psu_deploy.nn.temporal.fit import fit_exponentials
from tests.helpers import Array, lag_matrix, leak_matrix, strict_leak_matrix, toeplitz

STEPS = [1, 2, 9, 63]


def matrix_of(fit, T: int) -> Array:
    return sum((leak_matrix(T, g, d) for g, d in zip(fit.gains, fit.decays, strict=True)), np.zeros((T, T)))


def relative(A: Array, B: Array) -> float:
    return float(np.linalg.norm(A - B) / np.linalg.norm(A))


def noisy(T: int, seed: int = 0) -> Array:
    """What training makes of a leak: every entry has a mind of its own."""
    return np.tril(leak_matrix(T, 0.5, 0.6) + 0.1 * np.random.default_rng(seed).standard_normal((T, T)))


def best_toeplitz(A: Array) -> Array:
    """The matrix of the means of the diagonals: nothing time-invariant is closer."""
    return toeplitz(len(A), np.array([np.diagonal(A, -lag).mean() for lag in range(len(A))]))


@pytest.mark.rows(15)
@pytest.mark.full
@pytest.mark.parametrize("terms", [1, 2, 4])
@pytest.mark.parametrize("decay", [0.01, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("T", STEPS)
def test_a_leak_is_found(T, decay, terms):
    """1e-6 is what the price of gains may cost."""
    A = leak_matrix(T, -0.5, decay)
    fit = fit_exponentials(A, terms)
    assert relative(A, matrix_of(fit, T)) < 1e-6
    assert fit.error < 1e-6
    if terms == 1 and T > 1:
        assert (fit.gains, fit.decays) == (pytest.approx((-0.5,), rel=1e-5), pytest.approx((decay,), rel=1e-4))


@pytest.mark.full
@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("T", STEPS)
def test_what_forgets_at_once_and_what_keeps_for_ever(T, decay):
    """Decays stay inside (0, 1), 3e-7 away from the ends."""
    fit = fit_exponentials(leak_matrix(T, 0.5, decay), 2)
    assert fit.error < 2e-5
    assert all(0.0 < d < 1.0 for d in fit.decays)


@pytest.mark.full
@pytest.mark.parametrize("T", [9, 63])
def test_a_sum_of_exponentials_is_found(T):
    A = leak_matrix(T, 0.3, 0.9) - leak_matrix(T, 0.5, 0.2)
    fit = fit_exponentials(torch.from_numpy(A), 2)
    assert relative(A, matrix_of(fit, T)) < 1e-5
    assert fit.decays == pytest.approx((0.2, 0.9), rel=1e-3)
    assert fit.gains == pytest.approx((-0.5, 0.3), rel=1e-3)


@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("T", [2, 9, 63])
def test_the_error_is_the_distance_to_the_matrix_itself(T, terms):
    A = noisy(T)
    fit = fit_exponentials(A, terms)
    assert fit.error == pytest.approx(relative(A, matrix_of(fit, T)), rel=1e-9)
    assert fit.error >= relative(A, best_toeplitz(A)) * (1 - 1e-9)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_nothing_on_a_grid_is_closer(seed):
    """Two terms by brute force over both decays, the best gains for each pair. 1 % is what small gains may cost."""
    A = noisy(9, seed)
    lag, grid = lag_matrix(9), np.linspace(0.01, 0.99, 40)
    causal = lag >= 0
    best = np.inf
    for first in grid:
        for second in grid:
            basis = np.stack([np.power(d, lag[causal]) for d in (first, second)], axis=1)
            gains = np.linalg.lstsq(basis, A[causal], rcond=None)[0]
            best = min(best, float(np.linalg.norm(basis @ gains - A[causal])))
    assert fit_exponentials(A, 2).error <= 1.01 * best / np.linalg.norm(A)


@pytest.mark.full
@pytest.mark.parametrize("T", [9, 63])
def test_more_terms_are_never_worse(T):
    errors = [fit_exponentials(noisy(T), terms).error for terms in (1, 2, 4)]
    assert errors[1] <= 1.01 * errors[0]
    assert errors[2] <= 1.01 * errors[1]


@pytest.mark.full
@pytest.mark.parametrize("A", [noisy(9), np.tril(np.random.default_rng(1).standard_normal((9, 9)))])
def test_gains_are_of_the_matrix_s_own_size(A):
    """Terms of a thousand that cancel would fit noise a little better, and lose it in float32."""
    assert max(map(abs, fit_exponentials(A, 6).gains)) < 30 * np.abs(A).max()


def test_a_strict_leak_is_no_sum_but_nearly():
    """-1 at lag 0 takes a term of its own."""
    assert fit_exponentials(strict_leak_matrix(9, 1.0, 0.5), 2).error < 1e-4


@pytest.mark.parametrize(("T", "terms"), [(1, 1), (1, 4), (2, 5), (3, 8)])
def test_more_terms_than_steps(T, terms):
    fit = fit_exponentials(leak_matrix(T, 2.0, 0.5), terms)
    assert len(fit.gains) == len(fit.decays) == terms
    assert fit.error < 1e-5


def test_zeros():
    fit = fit_exponentials(np.zeros((4, 4)), 2)
    assert fit.error == 0.0
    assert fit.gains == (0.0, 0.0)


@pytest.mark.full
def test_the_same_matrix_gives_the_same_fit():
    assert fit_exponentials(noisy(9), 3) == fit_exponentials(noisy(9), 3)


@pytest.mark.parametrize(
    ("matrix", "terms", "message"),
    [
        (np.eye(3), 0, "terms must be at least 1, got 0"),
        (np.eye(3), 1.5, "terms must be a whole number, got 1.5"),
        (np.ones((2, 3)), 1, r"matrix must have shape \(T, T\) with T >= 1, got \(2, 3\)"),
        (np.ones(3), 1, r"matrix must have shape .* got \(3,\)"),
        (np.zeros((0, 0)), 1, r"with T >= 1, got \(0, 0\)"),
        (np.array([[np.nan]]), 1, "matrix must be finite"),
        (np.ones((2, 2)), 1, "matrix must be zero above the diagonal"),
    ],
)
def test_what_cannot_be_fitted(matrix, terms, message):
    with pytest.raises(InputError, match=message):
        fit_exponentials(matrix, terms)


def test_scipy_comes_with_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r'it comes with the \'nir\' extra: pip install "psu-deploy\[nir\]"'):
        fit_exponentials(np.eye(2), 1)


def closest_exponential(A: Array) -> float:
    """Distance of the best single exponential to A, entry by entry: for each of many decays, its best gain."""
    lower = np.tril_indices(len(A))
    lags, entries = lag_matrix(len(A))[lower], A[lower]
    best = np.inf
    for decay in np.linspace(0.001, 0.999, 999):
        powers = decay**lags
        gain = powers @ entries / (powers @ powers)
        best = min(best, float(np.linalg.norm(entries - gain * powers)))
    return best / float(np.linalg.norm(A))


SLOWER_AND_SLOWER = {
    "power law": 1 / (1 + np.arange(40.0)),
    "then none": np.where(np.arange(40) < 30, 1.0, 0.0),
    "then all": np.where(np.arange(40) < 5, 0.3, 1.0),
    "two": 0.5 ** np.arange(40.0) + 0.2 * 0.98 ** np.arange(40.0),
}


@pytest.mark.parametrize("kernel", SLOWER_AND_SLOWER.values(), ids=SLOWER_AND_SLOWER)
def test_every_entry_of_the_matrix_counts_the_same(kernel):
    """Lag 0 stands in T entries and lag T-1 in one: what is closest to the kernel is not closest to the matrix."""
    A = toeplitz(len(kernel), kernel)
    fit = fit_exponentials(A, 1)
    assert fit.error <= 1.01 * closest_exponential(A) + 1e-9
    assert relative(A, matrix_of(fit, len(A))) == pytest.approx(fit.error, abs=1e-9)
