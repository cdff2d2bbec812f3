"""What moves features, and computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.broadcasting import broadcast_shape, widened
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, axes_of, axis_of, check_axes, finite, pairs, sizes_of, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.machine.ops.sliding import Padding, pad

__all__ = ["Concat", "ConstantPad", "Expand", "Flatten", "Permute", "Reshape", "Take"]


class _Moved(Layer):
    """Base of what hands numbers on as they are: magnitude and error move the way the numbers do."""

    keeps_spikes = True

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self.step(inputs, context)


@op
class Flatten(_Moved):
    """All features in one axis, the last axis fastest: (C, H, W) -> (C*H*W,)."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return (prod(inputs[0]),)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].flatten(1) if inputs[0].ndim > 1 else inputs[0][:, None]


@op
class Reshape(_Moved):
    """The same numbers in the same order, the last axis fastest, with other axes.

    Args:
        shape: features that come out.
    """

    shape: Shape

    def __post_init__(self) -> None:
        sizes_of(self, "shape")

    def output_shape(self, *inputs: Shape) -> Shape:
        if prod(inputs[0]) != prod(self.shape):
            raise InputError(f"Reshape to {self.shape} needs {prod(self.shape)} numbers, got features {inputs[0]}")
        return self.shape

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)


@op
class Permute(_Moved):
    """The feature axes in another order: axis i of what comes out is axis `axes[i]` of what goes in.

    Args:
        axes: every feature axis once, counted from 0.
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        axes_of(self, "axes")
        if sorted(self.axes) != list(range(len(self.axes))):
            raise InputError(f"Permute.axes must hold each of 0..{len(self.axes) - 1} once, got {self.axes}")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != len(self.axes):
            raise InputError(f"Permute of {len(self.axes)} axes got features {inputs[0]}")
        return tuple(inputs[0][axis] for axis in self.axes)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].permute(0, *(axis + 1 for axis in self.axes))


@op
class Take(_Moved):
    """Entries of one feature axis, in any order and any number of times: `y[..., j, ...] = x[..., indices[j], ...]`.

    A part of an axis, every n-th entry, the axis turned round or rolled, its edge repeated or mirrored.

    Args:
        axis: feature axis, from 0.
        indices: whole numbers from 0, fixed.
    """

    axis: int
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        axis_of(self, "axis")
        whole_numbers(self, "indices", 0)
        if not self.indices:
            raise InputError("Take.indices must hold at least one index")

    @cached_property
    def positions(self) -> Tensor:
        """The indices as a tensor."""
        return torch.tensor(self.indices)

    @cached_property
    def steps(self) -> int | None:
        """By how much every index is larger than the one before it, where that is always the same and positive."""
        steps = set(np.diff(self.indices).tolist()) or {1}
        return steps.pop() if len(steps) == 1 and min(steps) > 0 else None

    def output_shape(self, *inputs: Shape) -> Shape:
        check_axes(self, inputs[0], self.axis)
        if max(self.indices) >= inputs[0][self.axis]:
            raise InputError(f"Take needs more than {max(self.indices)} entries in axis {self.axis}, got {inputs[0]}")
        return (*inputs[0][: self.axis], len(self.indices), *inputs[0][self.axis + 1 :])

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].index_select(self.axis + 1, self.positions.to(inputs[0].device))


@op
class Concat(_Moved):
    """Two or more inputs side by side along a feature axis.

    Args:
        axis: feature axis, from 0; all others are of one size.
    """

    axis: int

    arity = None

    def __post_init__(self) -> None:
        axis_of(self, "axis")

    def output_shape(self, *inputs: Shape) -> Shape:
        check_axes(self, min(inputs, key=len), self.axis)
        others = {(shape[: self.axis], shape[self.axis + 1 :]) for shape in inputs}
        if len(others) != 1:
            raise InputError(f"Concat along axis {self.axis} needs all other axes of one size, got {inputs}")
        total = sum(shape[self.axis] for shape in inputs)
        return (*inputs[0][: self.axis], total, *inputs[0][self.axis + 1 :])

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return torch.cat(list(inputs), self.axis + 1)


@op
class Expand(_Moved):
    """Axes of one entry repeated, and axes put in front, until the features have a shape.

    Args:
        shape: features that come out; what goes in broadcasts to them, lined up at the last axes.
    """

    shape: Shape

    def __post_init__(self) -> None:
        sizes_of(self, "shape")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) > len(self.shape) or broadcast_shape(self, inputs[0], self.shape) != self.shape:
            raise InputError(f"Expand cannot make features {self.shape} of {inputs[0]}")
        return self.shape

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return widened(inputs[0], len(self.shape)).expand(-1, *self.shape)


@op
class ConstantPad(Layer):
    """One number around the features.

    Args:
        padding: (before, after) for every feature axis.
        value: the number.
    """

    padding: Padding
    value: float = 0.0

    def __post_init__(self) -> None:
        pairs(self, "padding")
        finite(self, "value")

    @property
    def keeps_spikes(self) -> bool:
        return self.value in (0.0, 1.0)

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != len(self.padding):
            raise InputError(f"ConstantPad has {len(self.padding)} pairs for features {inputs[0]}")
        return tuple(n + sum(pair) for n, pair in zip(inputs[0], self.padding, strict=True))

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return pad(inputs[0], self.padding, self.value)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """A number that the engine's precision does not hold is off by a rounding."""
        magnitude, error = inputs[0].chunk(2)
        off = 0.0 if self.keeps_spikes else roundoff.unit * abs(self.value) + roundoff.tiny
        return torch.cat([pad(magnitude, self.padding, abs(self.value)), pad(error, self.padding, off)])
