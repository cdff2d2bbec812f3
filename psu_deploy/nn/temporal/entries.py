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


class Toeplitz(OneByOneFunction):
    """(k,) weights to an (S, S) matrix with `weight[l]` on diagonal l, counted downwards from the main one; k <= S."""

    @staticmethod
    def forward(weight: Tensor, side: int) -> Tensor:
        row = nn.functional.pad(weight.flip(0), (side - len(weight), side - 1))
        return row.unfold(0, side, 1).flip(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        ctx.order = len(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        side = len(grads[0])
        # Rows one number shorter than they are stand one place further right each: diagonals become columns.
        slanted = nn.functional.pad(grads[0].flip(0), (0, side)).flatten()[:-side].view(side, -1)
        return slanted.sum(0)[side - ctx.order : side].flip(0), None
