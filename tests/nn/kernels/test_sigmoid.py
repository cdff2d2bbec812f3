"""The kernels' sigmoid: every bit of torch's, and as exact as the rounding bounds assume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.machine.ops.roundoff import SIGMOID_ERROR
from psu_deploy.nn.kernels import operators

HALF_ULP = 2.0**-24


def sigmoid(x):
    """R[1] of a unit whose V[0] is x: `V - R - V_th`, with V[1] = V_th = 0, is -sigmoid(x)."""
    current = torch.stack([x, torch.zeros_like(x)])
    leaks, margin = ([], [], [1.0, 1.0]), (">=", "none", 1.0)
    nothing = torch.zeros_like(current)
    return -operators.spiking_unit(nothing, current, None, None, *leaks, "sigmoid", None, [], 0.0, *margin)[1]


def numbers(first, last, step):
    """float32 numbers by their bits."""
    return torch.from_numpy(np.arange(first, last, step, dtype=np.uint32).view(np.float32))


def check(x):
    ours, theirs = sigmoid(x), torch.sigmoid(x)
    different = (ours != theirs) & ~(ours.isnan() & theirs.isnan())
    assert not different.any(), x[different][:5]
    exactly = 1 / (1 + torch.exp(-x.double()))
    error = (ours.double() - exactly).abs().nan_to_num()
    assert float(error.max()) <= 2 * HALF_ULP < SIGMOID_ERROR * HALF_ULP


def test_one_in_many():
    """A 10007th of all float32 numbers, a multiple of 16 in number: the rest would not be vectorised in torch."""
    x = numbers(0, 2**32 - 1, 10007)
    check(x[: len(x) // 16 * 16])
    check(torch.linspace(-100, 100, 1 << 16))
    check(torch.nextafter(torch.tensor(-88.72284), torch.tensor(0.0)) - torch.arange(64) * 2.0**-17)


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(64))
def test_all(part):
    """Every float32 there is."""
    for first in range(part << 26, (part + 1) << 26, 1 << 22):
        check(numbers(first, first + (1 << 22), 1))
