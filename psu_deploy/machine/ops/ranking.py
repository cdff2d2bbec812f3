"""What orders numbers by size along a feature axis: the largest of them, and their places.

Sorted numbers are no farther apart than what was sorted: |sort(a)[i] - sort(b)[i]| <= max |a - b|. Their places jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context, Ranking
from psu_deploy.machine.ops.fields import LARGEST, Shape, axis_of, check_axes, flag, without
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.numerics.checks import is_whole

__all__ = ["ArgMax", "ArgTopK", "TopK"]


@dataclass(frozen=True, eq=False)
class _TopK(Layer):
    axis: int
    count: int
    largest: bool = True

    def __post_init__(self) -> None:
        axis_of(self, "axis")
        flag(self, "largest")
        if not is_whole(self.count) or not 1 <= self.count <= LARGEST:
            raise InputError(f"{type(self).__name__}.count must be a whole number above 0, got {self.count!r}")

    def output_shape(self, *inputs: Shape) -> Shape:
        features, axis = inputs[0], self.axis
        check_axes(self, features, axis)
        if self.count > features[axis]:
            raise InputError(f"{type(self).__name__} takes {self.count} of the {features[axis]} in axis {axis}")
        return (*features[:axis], self.count, *features[axis + 1 :])


@op
class TopK(_TopK):
    """The largest numbers along a feature axis, or the smallest, in order: that one first.

    Args:
        axis: feature axis, from 0.
        count: how many, at least 1.
        largest: whether the largest; False = the smallest.
    """

    @property
    def keeps_spikes(self) -> bool:
        return True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].topk(self.count, self.axis + 1, largest=self.largest).values

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Each is as large, and as far off, as the largest and the worst of all at most."""
        worst = inputs[0].amax(self.axis + 1, keepdim=True)
        return worst.repeat_interleave(self.count, self.axis + 1)


@op
class ArgTopK(_TopK):
    """Where the largest numbers along a feature axis are, or the smallest, counted from 0; ties in order.

    Args:
        axis: feature axis, from 0.
        count: how many, at least 1.
        largest: whether the largest; False = the smallest.
    """

    bound_sees_inputs = True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return self._places(inputs[0]).to(inputs[0].dtype)

    def _places(self, x: Tensor) -> Tensor:
        order = x.sort(dim=self.axis + 1, descending=self.largest, stable=True).indices
        return order.narrow(self.axis + 1, 0, self.count)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """None where a number is clear of every other, else that of any place: of equal ones any may be the first."""
        value = context.exact[0]
        context.ranking = _ranking(inputs[0], value, self._places(value), self.axis + 1, tied=False)
        return _bound(context.ranking, value.shape[self.axis + 1], roundoff)


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
        return without(inputs[0], (self.axis,), self.keepdims)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return inputs[0].argmax(self.axis + 1, keepdim=self.keepdims).to(inputs[0].dtype)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """None where the largest is clear of every other, or equal to it in any arithmetic; else that of any place."""
        axis, value = self.axis + 1, context.exact[0]
        found = _ranking(inputs[0], value, value.argmax(axis, keepdim=True), axis, tied=True)
        context.ranking = found if self.keepdims else Ranking(*(part.squeeze(axis) for part in found))
        return _bound(context.ranking, value.shape[axis], roundoff)


def _ranking(pair: Tensor, value: Tensor, places: Tensor, axis: int, *, tied: bool) -> Ranking:
    """How far the numbers at these places are from their nearest rivals.

    Args:
        pair: magnitude and error of the numbers.
        value: the numbers, in exact arithmetic.
        places: of them, along an axis.
        axis: the same.
        tied: whether two that are equal, and known to be, are in order.
    """
    value, error = value.movedim(axis, -1), pair.chunk(2)[1].to(value.dtype).movedim(axis, -1)
    places = places.movedim(axis, -1)
    gap = (value.gather(-1, places)[..., None] - value[..., None, :]).abs()
    # Twice, because the values are those of a run in float64, which may itself be what is judged.
    bound = 2 * (error.gather(-1, places)[..., None] + error[..., None, :])
    clear = places[..., None] == torch.arange(value.shape[-1], device=value.device)  # it need not be clear of itself
    clear = clear | (bound == 0) if tied else clear
    spare = (gap - bound).masked_fill(clear, torch.inf)
    nearest = spare.argmin(-1, keepdim=True)
    gap, bound, spare = (part.gather(-1, nearest)[..., 0].movedim(-1, axis) for part in (gap, bound, spare))
    return Ranking(~(spare > 0), gap, bound)


def _bound(ranking: Ranking, size: int, roundoff: Roundoff) -> Tensor:
    """A pair: places are counted to `size`, and either certain or any of them."""
    largest = torch.full(ranking.open.shape, float(size), dtype=roundoff.dtype)
    return torch.cat([largest, torch.where(ranking.open, largest, 0.0)])
