"""Layers with a memory of their own that are no neurons: delays, convolutions along time, held values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, finite, freeze, kind_of
from psu_deploy.machine.ops.functions import FUNCTIONS
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff, product
from psu_deploy.numerics.checks import is_whole

__all__ = ["Delay", "Filter", "HandOver", "Hold", "TimeConv", "Wait"]

MAX_DELAY = 100_000
"""Steps; more is a mistake, or a file that wants our memory."""


def check_steps(layer: Any) -> None:
    """Raise `InputError` unless `layer.steps` is a number of steps that may be remembered."""
    if not is_whole(layer.steps) or not 1 <= layer.steps <= MAX_DELAY:
        raise InputError(f"{type(layer).__name__}.steps must be a whole number in 1..{MAX_DELAY}, got {layer.steps!r}")


@op
class Delay(Layer):
    """`y[t] = x[t - steps]`, zero before the first input. State `buffer`: (B, steps, *features), oldest first.

    Args:
        steps: at least 1.
    """

    steps: int

    keeps_spikes = True
    along_time = True

    def __post_init__(self) -> None:
        check_steps(self)

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"buffer": (self.steps, *inputs[0])}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        buffer = context.state["buffer"]
        context.new_state["buffer"] = torch.cat([buffer[:, 1:], inputs[0][:, None]], dim=1)
        return buffer[:, 0]

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self.step(inputs, context)


@op
class Wait(Delay):
    """A delay line that lets its input wait for a slower branch: `y[t] = x[t - steps]`, and still belongs to that step.

    The same arithmetic and state as `Delay`. A delay is the network's own and shifts what happens; waiting shifts only
    when it is known, and counts as latency.
    """

    @property
    def lookahead(self) -> int:
        return self.steps


@op
class TimeConv(Layer):
    """Convolution along time: (C_in,) -> (C_out,), zero before the first input.

        y[t] = sum_{l = 0 .. k-1} W[:, :, l] x[t - (k-1) + l] + b

    State `inputs`: the last k - 1 inputs, (B, k-1, C_in), oldest first; none for k = 1.

    Args:
        weight: (C_out, C_in/groups, k), as `torch.nn.Conv1d` has it; the last entry meets the newest input.
        bias: (C_out,) or None.
        groups: number of groups.
        lookahead: how many of the k inputs are later than the step the result belongs to; the result is known that
            many steps late.
    """

    weight: Array
    bias: Array | None
    groups: int
    lookahead: int = 0

    along_time = True

    def __post_init__(self) -> None:
        freeze(self, "weight", 3)
        freeze(self, "bias", 1, optional=True)
        outputs, _, kernel = self.weight.shape
        if self.bias is not None and len(self.bias) != outputs:
            raise InputError(f"TimeConv: bias has {len(self.bias)} entries for {outputs} outputs")
        if not is_whole(self.groups) or self.groups < 1 or outputs % self.groups:
            raise InputError(f"TimeConv: groups={self.groups} does not divide {outputs} channels")
        if not is_whole(self.lookahead) or not 0 <= self.lookahead < kernel:
            raise InputError(f"TimeConv.lookahead must be a whole number in 0..{kernel - 1}, got {self.lookahead!r}")

    @property
    def order(self) -> int:
        """k, the number of inputs a result looks at."""
        return int(self.weight.shape[2])

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = self.weight.shape[1] * self.groups
        if inputs[0] != (channels,):
            raise InputError(f"TimeConv needs {channels} features in one axis, got shape {inputs[0]}")
        return (int(self.weight.shape[0]),)

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"inputs": (self.order - 1, *inputs[0])} if self.order > 1 else {}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        window = inputs[0][:, None]
        if "inputs" in context.state:
            window = torch.cat([context.state["inputs"], window], dim=1)
            context.new_state["inputs"] = window[:, 1:]
        bias = None if self.bias is None else context.tensor(self.bias)
        return F.conv1d(window.transpose(1, 2), context.tensor(self.weight), bias, groups=self.groups).squeeze(2)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, prod(self.weight.shape[1:]), self.bias)


@op
class Filter(Layer):
    """A causal operator on its own, such as a synaptic current or a leaky readout. State `y`: that of the operator.

    Args:
        operator: what makes the output of the input, neuron by neuron.
    """

    operator: CausalOperator

    along_time = True

    def __post_init__(self) -> None:
        kind_of(self, "operator", CausalOperator)

    @property
    def horizon(self) -> int | None:
        return self.operator.horizon

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shape = self.operator.state_shape(inputs[0])
        return {} if shape is None else {"y": shape}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        return self.operator.step("y", inputs[0], context)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self.operator.error("y", inputs[0], context, roundoff)


@op
class Hold(Layer):
    """`y[t] = x[0]`: the first value, for ever. State `value`: (B, *features).

    Layers that only feed it are computed in the first step and never again.
    """

    keeps_spikes = True
    along_time = True

    @property
    def uses_step(self) -> bool:
        return True

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"value": inputs[0]}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        context.new_state["value"] = inputs[0] if context.step == 0 else context.state["value"]
        return context.new_state["value"]

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self.step(inputs, context)


@op
class HandOver(Layer):
    """A leaky membrane that remembers itself only through another one, both projected onto one number.

        V[t] = x[t] + decay * Omega(U[t-1], V[t-1]),   Omega(p, q) = 2 sin(theta p cos(theta q)),   U[-1] = V[-1] = 0

    Inputs: the current x and the other membrane U, of the same features. State `U`, `V`: those of the step before.

    Args:
        decay: factor per step of what is handed over.
        theta: of the projection, in radians.
    """

    decay: float
    theta: float

    arity = 2
    along_time = True

    def __post_init__(self) -> None:
        finite(self, "decay", "theta")

    def output_shape(self, *inputs: Shape) -> Shape:
        if inputs[0] != inputs[1]:
            raise InputError(f"HandOver needs a current and a membrane of the same features, got {inputs}")
        return inputs[0]

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"U": inputs[1], "V": inputs[0]}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        current, context.new_state["U"] = inputs
        angle = self.theta * context.state["U"] * torch.cos(self.theta * context.state["V"])
        context.new_state["V"] = current + self.decay * (2 * torch.sin(angle))
        return context.new_state["V"]

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Sine and cosine carry an error on as it is, and are 1 at most: the memory cannot grow."""
        current, context.new_state["U"] = inputs
        first, second = (roundoff.rounded(abs(self.theta) * context.state[role], 1) for role in ("U", "V"))
        angle = roundoff.rounded(product((first, FUNCTIONS["cos"].error(roundoff, second))), 1)
        handed = abs(self.decay) * (2 * FUNCTIONS["sin"].error(roundoff, angle))
        context.new_state["V"] = roundoff.rounded(current + handed, 2)
        return context.new_state["V"]
