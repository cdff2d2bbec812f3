"""What makes one number of many along feature axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, axes_of, check_axes, flag, one_of, without
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Reduce"]

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
        return without(inputs[0], self.axes, self.keepdims)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return self._over(_KINDS[self.kind], inputs[0])

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """An extreme value is as large, and as far off, as the largest and the worst of all at most."""
        if self.keeps_spikes:
            return self._over(torch.amax, inputs[0])
        count = prod(inputs[0].shape[axis + 1] for axis in self.axes)
        pair = roundoff.rounded(self.step(inputs, context), count)
        return roundoff.divided(pair, count) if self.kind == "mean" else pair

    def _over(self, reduction: Callable[..., Tensor], x: Tensor) -> Tensor:
        return reduction(x, [axis + 1 for axis in self.axes], keepdim=self.keepdims)
