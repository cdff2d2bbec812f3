"""What works entry by entry, and what only changes the shape."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Shape, one_of
from psu_deploy.machine.ops.layer import Layer


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All features in one axis, the last axis fastest: (C, H, W) -> (C*H*W,)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)


class _Elementwise(Layer):
    """Base of what combines two or more inputs of one shape, entry by entry."""

    arity = None

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1:
            raise InputError(f"{type(self).__name__} needs inputs of one shape, got {inputs}")
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Add(_Elementwise):
    """Sum of two or more inputs of one shape, left to right."""


@dataclass(frozen=True, eq=False)
class Multiply(_Elementwise):
    """Product of two or more inputs of one shape, left to right."""


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """A pointwise function: `max(x, 0)` or `1 / (1 + exp(-x))`.

    Args:
        kind: "relu" or "sigmoid".
    """

    kind: str

    def __post_init__(self) -> None:
        one_of(self, "kind", ("relu", "sigmoid"))
