"""The sum of exponentials closest to a causal matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InputError, require
from psu_deploy.numerics.checks import check_whole

Array = NDArray[np.float64]

FURTHEST = 15.0
"""Largest logit of a decay, 3e-7 away from 0 and 1: float32 still tells it from them."""

LARGEST = 1e100
"""Entry of a matrix; the square of it is still a number."""

RIDGES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Prices of large gains, dearest first. Terms that nearly cancel lose in float32, and in training, what they won."""

ALMOST = 1.01
"""How much worse than the best a fit with smaller gains may be."""

_STARTS = ((-1.5, 1.5), (1.5, 1.5), (0.0, 4.0), (3.0, 3.0))
"""Centre and half width of the decays' logits."""

_ROUGH, _TIGHT = 1e-6, 1e-14
"""When a search ends. What is an exact sum of exponentials shall be found to the last digits, at the smallest price."""


@dataclass(frozen=True)
class ExponentialFit:
    """`A[i, j] = sum_m gains[m] * decays[m]**(i - j)` for `i >= j`, and how far it is from what it stands for.

    Args:
        gains: (r,).
        decays: (r,), rising, each strictly between 0 and 1.
        error: distance relative to the matrix, both as Frobenius norms; 0 for a matrix of zeros.
    """

    gains: tuple[float, ...]
    decays: tuple[float, ...]
    error: float


def fit_exponentials(matrix: Any, terms: int) -> ExponentialFit:
    """Fit r exponentials to a causal matrix A, (T, T).

        min over gains, decays of  sum_{i >= j} (A[i, j] - k[i - j])**2,   k[l] = sum_m gains[m] * decays[m]**l

    What varies along a diagonal is out of reach, so this is the least squares fit of k to the mean of every diagonal l,
    weighted by its length T - l. The best gains for given decays are linear least squares; the decays are searched from
    several fixed starts (variable projection), so the same matrix gives the same fit. Gains have a price, which falls
    from fit to fit; of those within 1 % of the best the one with the smallest gains is taken.

    Args:
        matrix: (T, T), zero above the diagonal; a tensor or an array.
        terms: r, at least 1; may be more than T.

    Raises:
        InputError: if the matrix is not square, not finite or not lower triangular, or terms is less than 1.
        MissingExtraError: if the `nir` extra (scipy) is not installed.

    Reference: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973), variable projection.
    """
    A = _checked(matrix, terms)
    optimize = require("scipy.optimize", extra="nir")
    fits, starts = [], _starts(terms)
    for ridge in RIDGES:
        fit, logits = _fit(optimize, A, ridge, starts)
        fits.append(fit)
        starts = [logits]
    best = min(fit.error for fit in fits)
    return next(fit for fit in fits if fit.error <= ALMOST * best)


def _fit(optimize: ModuleType, A: Array, ridge: float, starts: list[Array]) -> tuple[ExponentialFit, Array]:
    """The best of all starts for one price of gains, and the logits of its decays."""
    problem = _Diagonals(A, ridge)
    tolerance = _TIGHT if ridge == RIDGES[-1] else _ROUGH
    options = dict.fromkeys(("xtol", "ftol", "gtol"), tolerance) | {"max_nfev": 100}
    search = partial(optimize.least_squares, problem.residual, bounds=(-FURTHEST, FURTHEST), **options)
    found = [search(start) for start in starts]
    logits: Array = np.sort(min(found, key=lambda result: float(result.cost)).x)
    decays, gains = _sigmoid(logits), problem.gains(logits)
    error = _distance(A, _powers(decays, len(A)) @ gains)
    return ExponentialFit(tuple(gains.tolist()), tuple(decays.tolist()), error), logits


class _Diagonals:
    """The linear problem for the gains at given decays: a row for every diagonal, then the price of every gain."""

    def __init__(self, A: Array, ridge: float) -> None:
        T = len(A)
        self._weights: Array = np.sqrt(np.arange(T, 0, -1, dtype=np.float64))
        self._target = self._weights * np.array([np.diagonal(A, -lag).mean() for lag in range(T)])
        self._ridge = ridge

    def gains(self, logits: Array) -> Array:
        return _solved(*self._equations(logits))

    def residual(self, logits: Array) -> Array:
        basis, target = self._equations(logits)
        return basis @ _solved(basis, target) - target

    def _equations(self, logits: Array) -> tuple[Array, Array]:
        basis = self._weights[:, None] * _powers(_sigmoid(logits), len(self._target))
        price = self._ridge * np.eye(len(logits))
        return np.vstack([basis, price]), np.concatenate([self._target, np.zeros(len(logits))])


def _solved(basis: Array, target: Array) -> Array:
    gains, *_ = np.linalg.lstsq(basis, target, rcond=None)
    return np.asarray(gains, dtype=np.float64)


def _checked(matrix: Any, terms: int) -> Array:
    check_whole("terms", terms)
    if terms < 1:
        raise InputError(f"terms must be at least 1, got {terms}")
    A = np.asarray(matrix, dtype=np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not len(A):
        raise InputError(f"matrix must have shape (T, T) with T >= 1, got {A.shape}")
    if not np.isfinite(A).all():
        raise InputError("matrix must be finite; it holds NaN or infinity")
    if np.abs(A).max() > LARGEST:
        raise InputError(f"matrix has entries up to {np.abs(A).max():.3g}; expected at most {LARGEST:g}")
    if np.triu(A, 1).any():
        raise InputError("matrix must be zero above the diagonal: what looks ahead is no sum of exponentials")
    return A


def _starts(terms: int) -> list[Array]:
    return [centre + (np.linspace(-width, width, terms) if terms > 1 else np.zeros(1)) for centre, width in _STARTS]


def _powers(decays: Array, steps: int) -> Array:
    """(steps, r): `decays[m]**l`."""
    powers: Array = decays[None, :] ** np.arange(steps)[:, None]
    return powers


def _sigmoid(logits: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-logits))


def _distance(A: Array, kernel: Array) -> float:
    lag = np.subtract.outer(np.arange(len(A)), np.arange(len(A)))
    fitted = np.where(lag >= 0, kernel[np.maximum(lag, 0)], 0.0)
    size = float(np.linalg.norm(A))
    return float(np.linalg.norm(A - fitted)) / size if size else 0.0
