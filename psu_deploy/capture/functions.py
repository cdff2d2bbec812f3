"""Functions and tensor methods a forward may call between its modules."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

ADD: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
"""x + y."""

RESHAPE: tuple[Any, ...] = (
    *(torch.flatten, torch.reshape, torch.unflatten),
    *("flatten", "reshape", "view", "unflatten", "view_as", "reshape_as"),
)
"""Same numbers in the same order, other axes."""

SAME: tuple[Any, ...] = (
    *(F.dropout, F.dropout1d, F.dropout2d, torch.clone),
    *("contiguous", "clone", "detach", "float", "double", "to"),
)
"""Nothing happens to the numbers in eval mode."""

REDUCE: dict[Any, str] = {torch.mean: "mean", "mean": "mean", torch.sum: "sum", "sum": "sum"}
"""Reductions; over time they are readouts."""

SHAPE: tuple[Any, ...] = ("size", "dim", "numel", len, getattr)
"""Questions about a tensor, answered with numbers."""


def describe(target: Callable[..., Any] | str) -> str:
    """How a person would name a traced function or method."""
    return f"Tensor.{target}" if isinstance(target, str) else getattr(target, "__name__", str(target))
