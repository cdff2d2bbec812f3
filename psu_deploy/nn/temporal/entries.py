"""What is learned of a causal matrix, and the matrix that products take: dense, zero where it has no entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.nn.transformable import OneByOneFunction
from psu_deploy.numerics.subnormal import flushed


def places(steps: int, order: int) -> Tensor:
    """(n,): where the entries of the band stand in the (T, T) matrix, counted row by row, on the CPU."""
    rows, columns = torch.tril_indices(steps, steps, device="cpu").unbind()
    within: Tensor = (rows * steps + columns)[rows - columns < order]
    return within


class SpreadOut(OneByOneFunction):
    """(n,) entries to a (T, T) matrix, zero elsewhere.

    Subnormal entries are zero, too; their gradient is that of any other entry, so that they can leave.
    """

    @staticmethod
    def forward(entries: Tensor, where: Tensor, steps: int) -> Tensor:
        dense = entries.new_zeros(steps**2)
        return dense.index_copy_(0, where, flushed(entries)).view(steps, steps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        _, where, _ = inputs
        ctx.save_for_backward(where)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (where,) = ctx.saved_tensors
        return grads[0].flatten().index_select(0, where), None, None


def toeplitz(weight: Tensor, side: int) -> Tensor:
    """(k,) weights to an (S, S) matrix with `weight[l]` on diagonal l, counted downwards from the main one; k <= S."""
    order = len(weight)
    lags = torch.arange(side - 1, -side, -1, device=weight.device)
    lags = lags.clamp(max=order).masked_fill(lags < 0, order).unfold(0, side, 1).flip(0)
    return nn.functional.pad(weight, (0, 1)).expand(side, -1).gather(1, lags)
