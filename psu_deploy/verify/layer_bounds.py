"""How every layer and causal operator passes magnitude and error on. A kind that is not here is refused.

The one exception to "absolute numbers through the machine's own layers" is a product: see `product`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psu_deploy.machine import ops
from psu_deploy.machine.reference import Moment, advance, evaluate
from psu_deploy.verify.roundoff import SIGMOID_ERROR, Roundoff, product

Rule = Callable[[Roundoff, Any, Sequence[Tensor], Moment], Tensor]
"""(arithmetic, layer, pairs in, moment) -> pair out; the next state goes into the moment."""


def sigmoid_bound(roundoff: Roundoff, pair: Tensor) -> Tensor:
    """|sigmoid'| <= 1/4, and a sigmoid is at most 1."""
    _, error = pair.chunk(2)
    return torch.cat([torch.ones_like(error), error / 4 + SIGMOID_ERROR * roundoff.unit])


def operator_bound(roundoff: Roundoff, operator: Any, role: str, pair: Tensor, moment: Moment) -> Tensor:
    """One step of a causal operator with absolute numbers; its bias is added as an offset."""
    terms = OPERATORS[type(operator)](roundoff, operator, moment.step)
    return roundoff.rounded(advance(roundoff.absolute(operator), role, pair, moment), terms.products, terms.bias)


class Terms(NamedTuple):
    """What one result of an operator is summed of.

    Attributes:
        products: how many; a leak's are counted step by step, in its state.
        bias: |bias|; None = there is none.
    """

    products: int
    bias: Tensor | None = None


def _one(roundoff: Roundoff, operator: Any, step: int) -> Terms:
    return Terms(1)


def _partial_sums(roundoff: Roundoff, operator: ops.PartialSums, step: int) -> Terms:
    return Terms(len(operator.bias), roundoff.sizes(operator.bias)[step])


def _window(roundoff: Roundoff, operator: ops.Window, step: int) -> Terms:
    return Terms(operator.order, roundoff.sizes(operator.bias)[0 if operator.time_invariant else step])


def _exponentials(roundoff: Roundoff, operator: ops.Exponentials, step: int) -> Terms:
    return Terms(len(operator.gains), roundoff.scalar(abs(operator.bias)))


OPERATORS: dict[type, Callable[[Roundoff, Any, int], Terms]] = {
    ops.Identity: _one,
    ops.Leak: _one,
    ops.StrictLeak: _one,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind of operator -> what one of its results is summed of."""


def _summed(terms: Callable[[Any, Sequence[Tensor], int], int], bias: str = "bias") -> Rule:
    """A layer that is linear in its input, of so many products each, plus a constant per output or channel."""

    def rule(roundoff: Roundoff, layer: Any, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
        value = evaluate(roundoff.absolute(layer), inputs, moment)
        constant = getattr(layer, bias, None)
        offset = None if constant is None else roundoff.sizes(constant)
        if offset is not None and not isinstance(layer, ops.Linear):  # a channel is the first feature axis
            offset = offset.view(-1, *[1] * (value.ndim - 2))
        return roundoff.rounded(value, terms(layer, inputs, moment.step), offset)

    return rule


def _one_term(layer: ops.Layer, inputs: Sequence[Tensor], step: int) -> int:
    return 1


def _weights(layer: Any, inputs: Sequence[Tensor], step: int) -> int:
    """Of one output channel."""
    return prod(layer.weight.shape[1:])


def _places(layer: Any, inputs: Sequence[Tensor], step: int) -> int:
    """Of one window."""
    return prod(layer.kernel)


def _all_inputs(layer: ops.Layer, inputs: Sequence[Tensor], step: int) -> int:
    return len(inputs)


def _all_steps(layer: ops.Layer, inputs: Sequence[Tensor], step: int) -> int:
    return step + 1


def _nonzero(layer: ops.Linear, inputs: Sequence[Tensor], step: int) -> int:
    """Products with an exact zero round nothing."""
    magnitude, _ = inputs[0].chunk(2)
    return int(torch.count_nonzero(magnitude, dim=-1).max())


def _multiply(roundoff: Roundoff, layer: ops.Multiply, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return roundoff.rounded(product(inputs), len(inputs))


def _activation(roundoff: Roundoff, layer: ops.Activation, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return ACTIVATIONS[layer.kind](roundoff, inputs[0])


def _relu(roundoff: Roundoff, pair: Tensor) -> Tensor:
    """What is cut off only makes an error smaller."""
    return roundoff.rounded(pair, 1)


ACTIVATIONS: dict[str, Callable[[Roundoff, Tensor], Tensor]] = {"relu": _relu, "sigmoid": sigmoid_bound}
"""Kind of activation -> how it passes a pair on."""


def _filter(roundoff: Roundoff, layer: ops.Filter, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return operator_bound(roundoff, layer.operator, "y", inputs[0], moment)


_convolution, _pool, _moved = _summed(_weights), _summed(_places), _summed(_one_term)

LAYERS: dict[type, Rule] = {
    ops.Linear: _summed(_nonzero),
    ops.Conv1d: _convolution,
    ops.Conv2d: _convolution,
    ops.TimeConv: _convolution,
    ops.ChannelAffine: _summed(_one_term, bias="shift_size"),
    ops.AvgPool: _pool,
    ops.SumPool: _pool,
    ops.MaxPool: _moved,
    ops.Flatten: _moved,
    ops.Add: _summed(_all_inputs),
    ops.Multiply: _multiply,
    ops.Activation: _activation,
    ops.Delay: _moved,
    ops.Wait: _moved,
    ops.Filter: _filter,
    ops.Hold: _moved,
    ops.Readout: _summed(_all_steps),
}
"""Kind of layer -> how it passes pairs on."""
