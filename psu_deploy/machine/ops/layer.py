"""What every layer of a state machine says about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, saved_fields
from psu_deploy.machine.ops.roundoff import Roundoff


class Layer(ABC):
    """Base of all layers: one input, no state, no horizon.

    Shapes are those of one step without batch: a layer maps features to features. A layer with a memory lists it in
    `state_shapes`, and all of it starts at zero.
    """

    arity: ClassVar[int | None] = 1
    """Number of inputs; None = two or more."""

    along_time: ClassVar[bool] = False
    """Whether what comes out depends on steps before this one, or on which step it is."""

    bound_sees_inputs: ClassVar[bool] = False
    """Whether `error` depends on what goes in, in exact arithmetic: then it is in `Context.exact`."""

    @property
    def horizon(self) -> int | None:
        """Number of steps the layer is defined for; None = any number."""
        return None

    @property
    def keeps_spikes(self) -> bool:
        """Whether what comes out is 0 or 1 everywhere where what goes in is."""
        return False

    @property
    def lookahead(self) -> int:
        """Steps by which the output lags behind the input: what comes out at step t belongs to step t - lookahead."""
        return 0

    @property
    def uses_step(self) -> bool:
        """Whether the layer reads the step counter."""
        return self.horizon is not None

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""
        return parameters_of(self)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Features out, from the features of every input. Raises `InputError` if they do not fit."""
        return inputs[0]

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        """Role -> shape per sample of every state tensor."""
        return {}

    def workspace(self, *inputs: Shape) -> int:
        """Numbers per sample that the layer needs room for while it computes, its output not counted."""
        return 0

    @abstractmethod
    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        """What the layer means: (B, *features) in, (B, *features) out; its next state goes into the context."""

    @abstractmethod
    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """How far rounding can be off, in any order of its sums: pairs of magnitude and error in, a pair out.

        See `roundoff`. Its next state, as pairs, goes into the context.
        """

    def _sum_error(
        self,
        inputs: Sequence[Tensor],
        context: Context,
        roundoff: Roundoff,
        terms: int | Tensor,
        constant: Array | None = None,
        channels: int = 0,
        divisor: int = 1,
    ) -> Tensor:
        """The bound of a layer that is linear in its input.

        Args:
            inputs: pairs.
            context: as for `error`.
            roundoff: as for `error`.
            terms: products that one result is the sum of, those with an exact zero not counted.
            constant: added to it, one per channel.
            channels: feature axis of the channels, 0 or -1.
            divisor: of a mean: what is added up is so many times as large as the result.
        """
        pair = roundoff.absolute(self).step(inputs, context)
        if constant is None:
            return roundoff.summed(pair, terms, context.value, context.binary, divisor=divisor)
        size = roundoff.sizes(constant)
        size = size if channels else size.view(-1, *[1] * (pair.ndim - 2))
        return roundoff.summed(pair, terms, context.value, context.binary, size)


def parameters_of(op: Any) -> int:
    """Numbers in the arrays of an op, and in the ops it is made of."""
    values = [getattr(op, field.name) for field in saved_fields(op)]
    counts = (v.size if isinstance(v, np.ndarray) else getattr(v, "parameters", 0) for v in values)
    return int(sum(counts))
