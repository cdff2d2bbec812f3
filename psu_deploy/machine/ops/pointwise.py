"""What works entry by entry, and what only changes the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, one_of
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff, product

__all__ = ["Activation", "Add", "Flatten", "Multiply"]


@op
class Flatten(Layer):
    """All features in one axis, the last axis fastest: (C, H, W) -> (C*H*W,)."""

    keeps_spikes = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].flatten(1) if inputs[0].ndim > 1 else inputs[0][:, None]

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, 1)


class _Elementwise(Layer):
    """Base of what combines two or more inputs of one shape, entry by entry."""

    arity = None

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1:
            raise InputError(f"{type(self).__name__} needs inputs of one shape, got {inputs}")
        return inputs[0]


@op
class Add(_Elementwise):
    """Sum of two or more inputs of one shape, left to right."""

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        total = inputs[0]
        for term in inputs[1:]:
            total = total + term
        return total

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, len(inputs))


@op
class Multiply(_Elementwise):
    """Product of two or more inputs of one shape, left to right."""

    keeps_spikes = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        result = inputs[0]
        for factor in inputs[1:]:
            result = result * factor
        return result

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """A product is the one thing that is not linear in magnitude and error."""
        return roundoff.rounded(product(inputs), len(inputs))


class _Function(NamedTuple):
    """One pointwise function.

    Args:
        value: of every entry.
        error: the bound of it, from a pair to a pair.
    """

    value: Callable[[Tensor], Tensor]
    error: Callable[[Roundoff, Tensor], Tensor]


FUNCTIONS = {
    "relu": _Function(torch.relu, lambda roundoff, pair: roundoff.rounded(pair, 1)),  # a cut makes an error smaller
    "sigmoid": _Function(torch.sigmoid, Roundoff.sigmoid),
}
"""Kind of activation -> what it computes."""


@op
class Activation(Layer):
    """A pointwise function: `max(x, 0)` or `1 / (1 + exp(-x))`.

    Args:
        kind: "relu" or "sigmoid".
    """

    kind: str

    def __post_init__(self) -> None:
        one_of(self, "kind", tuple(FUNCTIONS))

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return FUNCTIONS[self.kind].value(inputs[0])

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return FUNCTIONS[self.kind].error(roundoff, inputs[0])
