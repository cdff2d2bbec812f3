"""Is a rounding bound of use? One that is infinite, or as large as what it bounds, excuses everything.

A decision is *open* where its bound says nothing: the bound is infinite, or it reaches the margin and is not small
beside what its layer compares. A potential that lies exactly on a threshold, as sums of whole numbers do, leaves no
decision open: its bound is tiny, and anything but rounding would show.
"""

from __future__ import annotations

import torch
from torch import Tensor

OPEN_LIMIT = 0.01
"""Share of a layer's decisions, or of the outputs, that may be open before nothing counts as proven."""

_SMALL = 0.1
"""A bound below this share of what a layer compares, its mean |V - R| and its threshold, is of use."""

_LEAST_OUTPUT = 1e-3
"""An output bound below it is of use, whatever the outputs are."""


def open_decisions(margin: Tensor, bound: Tensor, threshold: float) -> int:
    """How many decisions of a layer are open.

    Args:
        margin: V - R - threshold in exact arithmetic, (T, B, *features).
        bound: how far rounding can move it.
        threshold: of the layer.
    """
    compared = float((margin + threshold).abs().mean()) + abs(threshold)
    blunt = (margin.abs() <= bound) & (bound > _SMALL * compared)
    return int((blunt | ~torch.isfinite(bound)).sum())


def open_outputs(output: Tensor, bound: Tensor) -> float:
    """Share of the outputs whose bound is as large as the largest of them; 1 if a bound is infinite."""
    if unbounded(bound):
        return 1.0
    most = max(float(output.abs().max()), _LEAST_OUTPUT)
    return float((bound > most).double().mean())


def unbounded(bound: Tensor) -> int:
    """How many bounds are infinite."""
    return int((~torch.isfinite(bound)).sum())
