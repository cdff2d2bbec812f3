"""Where a network with several outputs ends."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, texts
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Outputs"]


@op
class Outputs(Layer):
    """All outputs of a network that has several, one behind the other: y = (flat(x_1), ..., flat(x_n)).

    The last layer, which no other reads. What gives outputs to people and engines gives them by their names, each with
    the features it has; see `StateMachine.outputs`.

    Args:
        names: of the outputs, one for every input.
    """

    names: tuple[str, ...]

    arity = None

    def __post_init__(self) -> None:
        texts(self, "names")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs) != len(self.names):
            raise InputError(f"Outputs names {len(self.names)} outputs, {self.names}, and reads {len(inputs)}")
        return (sum(map(prod, inputs)),)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return torch.cat([x.reshape(len(x), -1) for x in inputs], 1)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self.step(inputs, context)
