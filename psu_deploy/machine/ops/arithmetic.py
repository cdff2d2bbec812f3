"""What adds, multiplies and divides: inputs with each other, and with numbers that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.broadcasting import aligned, broadcast_shape, widened
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, axis_of, check_axes, freeze
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Add", "Affine", "Divide", "MatMul", "Multiply", "Project", "Subtract"]


class _Elementwise(Layer):
    """Base of what combines two or more inputs entry by entry; features broadcast, lined up at their last axes."""

    arity: ClassVar[int | None] = None

    def output_shape(self, *inputs: Shape) -> Shape:
        return broadcast_shape(self, *inputs)


@op
class Add(_Elementwise):
    """Sum of two or more inputs that broadcast against each other, left to right."""

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        total, *terms = aligned(inputs)
        for term in terms:
            total = total + term
        return total

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, len(inputs))


@op
class Multiply(_Elementwise):
    """Product of two or more inputs that broadcast against each other, left to right."""

    keeps_spikes = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        result, *factors = aligned(inputs)
        for factor in factors:
            result = result * factor
        return result

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """A product is the one thing that is not linear in magnitude and error."""
        return roundoff.product(aligned(inputs))


@op
class Subtract(_Elementwise):
    """`a - b` of two inputs that broadcast against each other."""

    arity = 2

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        first, second = aligned(inputs)
        return first - second

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        first, second = aligned(inputs)
        return roundoff.rounded(first + second, 2)


@op
class Divide(_Elementwise):
    """`a / b` of two inputs that broadcast against each other; a division by zero overflows, and a run says so."""

    arity = 2
    bound_sees_inputs = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        first, second = aligned(inputs)
        return first / second

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """`|a'/b' - a/b| <= (E_a + |a/b| E_b) / |b'|`, and nothing is known where b' may be zero.

        The values are those of a run in float64, which may itself be what is judged: it is off by one error, too.
        """
        (_, above), (_, below) = (pair.chunk(2) for pair in aligned(inputs))
        numerator, denominator = (value.abs().to(roundoff.dtype) for value in aligned(context.exact))
        least = denominator - 2 * below - roundoff.tiny
        quotient = (numerator + above) / least
        error = torch.where(least > 0, (above + quotient * below) / least, torch.inf)
        size = torch.where(least > 0, quotient, torch.inf)
        return roundoff.with_error(torch.cat([size, error]), 2, size + error)


@op
class Affine(Layer):
    """`y = scale*x + shift` with numbers that broadcast against the features, lined up at the last axes.

    A scale per position, an embedding of positions, a mask, a learned bias of any shape; `ChannelAffine` has one number
    per channel.

    Args:
        scale: of any shape.
        shift: of any shape.
    """

    scale: Array
    shift: Array

    def __post_init__(self) -> None:
        freeze(self, "scale", None)
        freeze(self, "shift", None)

    def output_shape(self, *inputs: Shape) -> Shape:
        return broadcast_shape(self, inputs[0], self.scale.shape, self.shift.shape)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        x = widened(inputs[0], max(self.scale.ndim, self.shift.ndim))
        return x * context.tensor(self.scale) + context.tensor(self.shift)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        pair = roundoff.absolute(self).step(inputs, context)
        return roundoff.rounded(pair, 1, roundoff.sizes(self.shift))


@op
class MatMul(Layer):
    """Matrix product of two inputs: (..., n, k) @ (..., k, m) -> (..., n, m); axes in front broadcast."""

    arity = 2
    bound_sees_inputs = True

    def output_shape(self, *inputs: Shape) -> Shape:
        first, second = inputs
        if min(len(first), len(second)) < 2 or first[-1] != second[-2]:
            raise InputError(f"MatMul needs features (..., n, k) and (..., k, m), got {first} and {second}")
        return (*broadcast_shape(self, first[:-2], second[:-2]), first[-2], second[-1])

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        first, second = aligned(inputs)
        return first @ second

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """`|A| E_B + E_A |B| + E_A E_B`: every entry is a sum of k products.

        A and B themselves and not the terms they were summed of, which in attention, a product of products, are larger
        every time. They are those of a run in float64, which may itself be what is judged: hence twice the last term.
        """
        (_, error), (_, other_error) = (pair.chunk(2) for pair in aligned(inputs))
        size, other = (value.abs().to(roundoff.dtype) for value in aligned(context.exact))
        off = size @ other_error + error @ (other + 2 * other_error)
        return roundoff.rounded(torch.cat([size @ other + off, off]), inputs[0].shape[-1])


@op
class Project(Layer):
    """A matrix along one feature axis: `y[..., j, ...] = sum_i M[j, i] x[..., i, ...]`.

    What is resampled, averaged over windows of different sizes, or mixed by learned numbers.

    Args:
        matrix: (new size, size).
        axis: feature axis, from 0.
    """

    matrix: Array
    axis: int

    def __post_init__(self) -> None:
        freeze(self, "matrix", 2)
        axis_of(self, "axis")

    def output_shape(self, *inputs: Shape) -> Shape:
        check_axes(self, inputs[0], self.axis)
        before, size, behind = inputs[0][: self.axis], inputs[0][self.axis], inputs[0][self.axis + 1 :]
        if size != self.matrix.shape[1]:
            raise InputError(f"Project needs {self.matrix.shape[1]} features in axis {self.axis}, got {inputs[0]}")
        return (*before, self.matrix.shape[0], *behind)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        last = inputs[0].movedim(self.axis + 1, -1)
        return (last @ context.tensor(self.matrix).T).movedim(-1, self.axis + 1)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Products with an exact zero round nothing."""
        terms = int(np.count_nonzero(self.matrix, axis=1).max())
        return self._sum_error(inputs, context, roundoff, terms)
