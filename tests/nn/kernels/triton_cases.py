"""What the kernels for a GPU are tried with: every option, and every pair of options that could meet."""

from __future__ import annotations

import itertools
import os
from typing import Any

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
THERE = torch.cuda.is_available()
STEPS, SHAPE = (16, (3, 45)) if THERE and not INTERPRETED else (3, (3, 15))
"""The interpreter is slow: part of a block of 128 neurons. A GPU gets a whole one, and the beginning of another."""

EXPONENTIALS = 1, 3, 4
"""How many there are."""

UNITS: dict[str, dict[str, Any]] = {
    "no leak": {"fire_on": ">"},
    "one leak": {"leak_a": [0.5, 0.75]},
    "two leaks": {
        "two": True,
        "leak_a": [0.5, 0.7],
        "leak_b": [0.3, 0.9],
        "fire_on": ">",
        "surrogate": ("rectangle", 0.3),
    },
    "two biases": {"two": True, "biases": (True, True), "surrogate": ("piecewise_linear", 1.5)},
    "one bias": {"biases": (True, False), "estimator": "staircase"},
    "a leak beside a bias": {"two": True, "leak_a": [1.0, 0.5], "biases": (False, True), "estimator": "staircase"},
    "the identity of one": {"leak_a": [0.5, 0.7], "estimator": "identity"},
    "the identity of another": {"two": True, "leak_b": [0.5, 0.7], "estimator": "identity", "surrogate": ("none", 1.0)},
    "no reset": {"biases": (True, False), "estimator": "none"},
    "no reset, a leak": {"leak_a": [0.5, 0.7], "estimator": "none", "surrogate": ("none", 1.0)},
    "a margin": {"surrogate": ("none", 1.0)},
}
LIFS = {
    f"{'hard' if hard else 'soft'}{' decays' * decays}{' detached' * detach}{' shared' * shares}": (
        hard,
        decays,
        detach,
        shares,
    )
    for hard, decays, detach, shares in itertools.product((True, False), repeat=4)
    if hard ^ decays ^ detach ^ shares or THERE
}
"""Half of all, in which every three options meet in every way."""


def randn(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape) * scale).double()  # numbers that float32 has


def unit(
    two: bool = False,
    leak_a: Any = (),
    leak_b: Any = (),
    biases: tuple[bool, bool] = (False, False),
    estimator: str = "sigmoid",
    surrogate: tuple[str, float] = ("atan", 2.0),
    fire_on: str = ">=",
    shape: tuple[int, ...] = (STEPS, *SHAPE),
) -> list[Any]:
    sequences = randn(*shape, scale=2.0), randn(*shape) if two else None
    biased = (randn(shape[0]) if there else None for there in biases)
    steps = estimator == "staircase"
    staircase = torch.tensor([-1.0, 0.25, 1.0]).double() if steps else None, [0.25, 0.125] if steps else []
    reset = [0.75, 0.6]
    return [*sequences, *biased, list(leak_a), list(leak_b), reset, estimator, *staircase, 0.3, fire_on, *surrogate]


def lif(hard: bool, decays: bool, detach: bool, shares: bool, shape: tuple[int, ...] = (STEPS, *SHAPE)) -> list[Any]:
    share = torch.tensor(0.375).double() if shares else None
    surrogate = ("atan", 2.0) if detach else ("piecewise_linear", 0.75) if hard else ("rectangle", 0.5)
    return [randn(*shape, scale=2.0), share, 3.0, 0.9, hard, decays, detach, ">" if shares else ">=", *surrogate]


def exponentials(terms: int, shape: tuple[int, ...] = (STEPS, *SHAPE)) -> list[Any]:
    return [randn(*shape), randn(terms), torch.rand(terms).double()]


def moved(inputs: list[Any], dtype: torch.dtype, device: str) -> list[Any]:
    return [i.to(device, dtype) if isinstance(i, Tensor) else i for i in inputs]
