"""What makes one number of many along feature axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, axes_of, axis_of, check_axes, flag, one_of
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["ArgMax", "Reduce"]

_KINDS: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax, "min": torch.amin}


@op
class Reduce(Layer):
    """Mean, sum, maximum or minimum over feature axes.

    Args:
        kind: "mean", "sum", "max" or "min".
        axes: feature axes, from 0; at least one.
        keepdims: whether they stay, with one entry.
    """

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = False

    def __post_init__(self) -> None:
        one_of(self, "kind", tuple(_KINDS))
        axes_of(self, "axes")
        flag(self, "keepdims")
        if not self.axes:
            raise InputError("Reduce.axes must hold at least one axis")

    @property
    def keeps_spikes(self) -> bool:
        return self.kind in ("max", "min")

    def output_shape(self, *inputs: Shape) -> Shape:
        check_axes(self, inputs[0], *self.axes)
        return _without(inputs[0], self.axes, self.keepdims)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return self._over(_KINDS[self.kind], inputs[0])

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """An extreme value is as large, and as far off, as the largest and the worst of all at most."""
        if self.keeps_spikes:
            return self._over(torch.amax, inputs[0])
        return roundoff.rounded(self.step(inputs, context), prod(inputs[0].shape[axis + 1] for axis in self.axes))

    def _over(self, reduction: Callable[..., Tensor], x: Tensor) -> Tensor:
        return reduction(x, [axis + 1 for axis in self.axes], keepdim=self.keepdims)


@op
class ArgMax(Layer):
    """Where the largest number along a feature axis is, counted from 0; of equal ones the first.

    Args:
        axis: feature axis, from 0.
        keepdims: whether it stays, with one entry.
    """

    axis: int
    keepdims: bool = False

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        axis_of(self, "axis")
        flag(self, "keepdims")

    def output_shape(self, *inputs: Shape) -> Shape:
        check_axes(self, inputs[0], self.axis)
        return _without(inputs[0], (self.axis,), self.keepdims)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].argmax(self.axis + 1, keepdim=self.keepdims).to(inputs[0].dtype)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """None where the largest is clear of every other by twice what both may be off, else that of any place.

        Twice, because the values are those of a run in float64, which may itself be what is judged.
        """
        axis, value = self.axis + 1, context.exact[0]
        error = inputs[0].chunk(2)[1].to(value.dtype)
        first = value.argmax(axis, keepdim=True)
        gap = value.gather(axis, first) - value
        doubt = error.gather(axis, first) + error
        doubt = doubt.scatter(axis, first, 0.0)  # it need not be clear of itself
        clear = ((gap > 2 * doubt) | (doubt == 0)).all(axis, keepdim=self.keepdims)
        size = torch.full_like(clear, value.shape[axis], dtype=roundoff.dtype)
        return torch.cat([size, torch.where(clear, torch.zeros_like(size), size)])


def _without(features: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """Features once these axes have one entry, or are gone."""
    kept = [1 if index in axes else n for index, n in enumerate(features)]
    return tuple(n for index, n in enumerate(kept) if keepdims or index not in axes)
