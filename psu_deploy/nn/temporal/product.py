"""Products of a causal matrix and a sequence, tile by tile: what is zero by its place is skipped.

Of a (T, T) matrix whose rows look at k steps only about T k numbers count, T^2 / 2 where k = T; a dense product takes
all T^2. The rows are cut into blocks, and a block needs the inputs from k - 1 steps before its first row to its last:

    y[a:b] = A[a:b, c:b] x[c:b],   c = max(0, a - k + 1)

So it is for both gradients: that of x is the product with the transpose, block by block of columns; that of A is only
wanted where A has entries. The three are bilinear and each other's derivatives, so any derivative is a product again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psu_deploy.nn.transformable import OneByOneFunction

NARROW, WIDE = 64, 128
"""Rows per tile, of a narrow band and of a wide one. Fewer skip more of the matrix; more use a processor better."""

WIDTH = 1024
"""Columns of the sequence at a time on the CPU: about as much of it as a core's cache holds."""


@dataclass(frozen=True)
class Band:
    """Where a causal matrix has entries, `A[i, j]` for `0 <= i - j < order`, and how they are kept.

    Attributes:
        order: k.
        invariant: all entries of a diagonal are the same, so that the first S rows and columns serve everywhere,
            `S = side(T)`; False = the matrix is kept whole.
    """

    order: int
    invariant: bool = False

    @property
    def block(self) -> int:
        """Rows per tile."""
        return min(max(self.order, NARROW), WIDE)

    def side(self, steps: int) -> int:
        """Rows of the matrix that is needed for so many steps."""
        return min(steps, self.block + self.order - 1) if self.invariant else steps

    def by_outputs(self, steps: int) -> Iterator[Tile]:
        """Tiles that cover the band, every output in one of them."""
        for start in range(0, steps, self.block):
            stop = min(start + self.block, steps)
            yield self._tile(start, stop, max(0, start - self.order + 1), stop)

    def by_inputs(self, steps: int) -> Iterator[Tile]:
        """Tiles that cover the band, every input in one of them."""
        for start in range(0, steps, self.block):
            stop = min(start + self.block, steps)
            yield self._tile(start, min(steps, stop + self.order - 1), start, stop)

    def _tile(self, first_output: int, last_output: int, first_input: int, last_input: int) -> Tile:
        origin = first_input if self.invariant else 0
        place = slice(first_output - origin, last_output - origin), slice(first_input - origin, last_input - origin)
        return Tile(slice(first_output, last_output), slice(first_input, last_input), place)


class Tile(NamedTuple):
    """A rectangle of the matrix: the steps that it makes, those that it looks at, and where it is kept."""

    outputs: slice
    inputs: slice
    place: tuple[slice, slice]


def causal_product(matrix: Tensor, x: Tensor, band: Band) -> Tensor:
    """`y = A x` along time, differentiable in both, any number of times.

    Args:
        matrix: (S, S), `S = band.side(T)`, zero above the diagonal and outside the band.
        x: sequence (T, ...), of the same dtype.
        band: where the matrix has entries. Those outside get no gradient, or one that means nothing.

    Returns:
        Sequence of the same shape.
    """
    flat = x.flatten(1)
    y: Tensor = matrix @ flat if len(x) <= band.block else _Product.apply(matrix, flat, band)
    return y.view_as(x)


class _Bilinear(OneByOneFunction):
    """Base of the three: two tensors and the band."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        left, right, ctx.band = inputs
        ctx.save_for_backward(left, right)


class _ByMatrix(_Bilinear):
    """A product of the matrix: sequences of many samples are one wider sequence."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], left: Tensor, right: Tensor, band: Band) -> Any:
        if in_dims[0] is not None or in_dims[1] is None:
            return super().vmap(info, in_dims, left, right, band)
        wide = right.movedim(in_dims[1], 1)
        return cls.apply(left, wide.flatten(1), band).view_as(wide), 1


class _Product(_ByMatrix):
    """`A x`."""

    @staticmethod
    def forward(matrix: Tensor, x: Tensor, band: Band) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for tile in band.by_outputs(len(x)):
            _multiply(matrix[tile.place], x[tile.inputs], y[tile.outputs])
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        matrix, x = ctx.saved_tensors
        return _wanted(
            ctx, lambda: _Outer.apply(grads[0], x, ctx.band), lambda: _Back.apply(matrix, grads[0], ctx.band)
        )


class _Back(_ByMatrix):
    """`A^T g`."""

    @staticmethod
    def forward(matrix: Tensor, g: Tensor, band: Band) -> Tensor:
        x = torch.empty_like(g, memory_format=torch.contiguous_format)
        for tile in band.by_inputs(len(g)):
            _multiply(matrix[tile.place].T, g[tile.outputs], x[tile.inputs])
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        matrix, g = ctx.saved_tensors
        return _wanted(
            ctx, lambda: _Outer.apply(g, grads[0], ctx.band), lambda: _Product.apply(matrix, grads[0], ctx.band)
        )


class _Outer(_Bilinear):
    """`g x^T` where the matrix has tiles, zero elsewhere."""

    @staticmethod
    def forward(g: Tensor, x: Tensor, band: Band) -> Tensor:
        side = band.side(len(x))
        matrix = g.new_zeros(side, side)
        for tile in band.by_outputs(len(x)):
            matrix[tile.place].addmm_(g[tile.outputs], x[tile.inputs].T)
        return matrix

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        g, x = ctx.saved_tensors
        (h,), band = grads, ctx.band
        return _wanted(ctx, lambda: _Product.apply(h, x, band), lambda: _Back.apply(h, g, band))


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`out = left right`, in place."""
    columns = out.shape[1]
    width = WIDTH if out.device.type == "cpu" else max(columns, 1)
    for start in range(0, columns, width):
        part = slice(start, start + width)
        out[:, part].addmm_(left, right[:, part], beta=0)  # what is in it does not count; torch.compile knows no out=


def _wanted(ctx: Any, *grads: Callable[[], Tensor]) -> tuple[Tensor | None, Tensor | None, None]:
    """Those of the two gradients that somebody asks for."""
    left, right = (grad() if needed else None for grad, needed in zip(grads, ctx.needs_input_grad, strict=False))
    return left, right, None
