"""Functions of one input that work entry by entry."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import one_of
from psu_deploy.machine.ops.functions import FUNCTIONS
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["Activation"]


@op
class Activation(Layer):
    """A pointwise function without numbers of its own: `max(x, 0)`, `1 / (1 + exp(-x))` and so on.

    Args:
        kind: a name in `FUNCTIONS`, as torch has it; "gelu_tanh" is GELU in its approximation by tanh.
    """

    kind: str

    def __post_init__(self) -> None:
        one_of(self, "kind", tuple(FUNCTIONS))

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return FUNCTIONS[self.kind].value(inputs[0])

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return FUNCTIONS[self.kind].error(roundoff, inputs[0])
