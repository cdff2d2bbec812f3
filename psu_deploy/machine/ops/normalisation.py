"""What scales and shifts its input: BatchNorm in eval form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

import numpy as np
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import UNSAVED, Array, Shape, freeze
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["ChannelAffine"]


@op
class ChannelAffine(Layer):
    """`y[c] = scale[c]*x[c] + shift[c]` per channel, the first feature axis: a BatchNorm in eval form.

    Args:
        scale: (C,).
        shift: (C,).
        summed: (C,), how large the numbers are that a module adds up for the shift while it runs: they are rounded, and
            may cancel. `|bias| + |mean*scale|` for a BatchNorm. No part of what is computed, and not saved. None = the
            shift is there as it is.
    """

    scale: Array
    shift: Array
    summed: Array | None = field(default=None, metadata=UNSAVED)

    def __post_init__(self) -> None:
        freeze(self, "scale", 1)
        freeze(self, "shift", 1)
        freeze(self, "summed", 1, optional=True)
        if self.scale.shape != self.shift.shape or self.shift_size.shape != self.shift.shape:
            raise InputError(f"ChannelAffine: scale {self.scale.shape} and shift {self.shift.shape} differ")

    @property
    def shift_size(self) -> Array:
        """(C,), what the rounding of the shift is relative to."""
        return np.abs(self.shift) if self.summed is None else self.summed

    def output_shape(self, *inputs: Shape) -> Shape:
        if not inputs[0] or inputs[0][0] != len(self.scale):
            raise InputError(f"ChannelAffine needs {len(self.scale)} channels, got shape {inputs[0]}")
        return inputs[0]

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        channels = (-1, *[1] * (inputs[0].ndim - 2))
        return inputs[0] * context.tensor(self.scale).view(channels) + context.tensor(self.shift).view(channels)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, 1, self.shift_size)
