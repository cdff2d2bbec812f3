"""The estimators of a spike: pointwise functions between two causal operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, finite, freeze
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.numerics import sigmoid_table

__all__ = ["Estimator", "RawCurrent", "Sigmoid", "SigmoidTable", "Staircase"]


class Estimator(ABC):
    """Base of the estimators: a pointwise function of E, without state."""

    parameters: ClassVar[int] = 0
    """Numbers that were learned."""

    @abstractmethod
    def step(self, value: Tensor, context: Context) -> Tensor:
        """The estimated spike S' of every E."""

    @abstractmethod
    def error(self, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """How far rounding can be off: a pair of magnitude and error in, one out; see `roundoff`."""


@op
class Sigmoid(Estimator):
    """Estimated spike `S' = 1 / (1 + exp(-E))`. Not zero in silence: sigmoid(0) = 0.5."""

    def step(self, value: Tensor, context: Context) -> Tensor:
        return torch.sigmoid(value)

    def error(self, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        return roundoff.sigmoid(pair, context.seen)


@op
class RawCurrent(Estimator):
    """No estimate: what enters the reset is E itself (IPSU as the authors coded it)."""

    def step(self, value: Tensor, context: Context) -> Tensor:
        return value

    def error(self, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        return pair


@op
class Staircase(Estimator):
    """A sigmoid in steps: `S' = offset + height * #{k : E >= thresholds[k]}`.

    Args:
        thresholds: (K,), rising.
        height: of every step.
        offset: S' below the first threshold.
    """

    thresholds: Array
    height: float
    offset: float

    def __post_init__(self) -> None:
        freeze(self, "thresholds", 1)
        finite(self, "height", "offset")
        if not len(self.thresholds) or (np.diff(self.thresholds) <= 0).any():
            raise InputError(f"Staircase.thresholds must be one or more rising numbers, got {self.thresholds}")

    def step(self, value: Tensor, context: Context) -> Tensor:
        steps_below = torch.bucketize(value.contiguous(), context.tensor(self.thresholds), right=True)
        return steps_below.to(value.dtype) * self.height + self.offset

    def error(self, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """An error e of E turns every step with |E - threshold| <= e, E and the thresholds with their signs.

        Thresholds are rounded too. They are rising, so those out of reach on either side are counted.
        """
        largest = roundoff.scalar(float(np.abs(self.thresholds).max()))
        _, error = roundoff.remembered(f"{context.name}.E", pair, largest).chunk(2)
        seen, thresholds = _exact(context), torch.from_numpy(self.thresholds.copy())
        slack = 2 * roundoff.unit * thresholds.abs() + roundoff.tiny
        within = torch.bucketize((seen + error).contiguous(), thresholds - slack, right=True)
        below = torch.bucketize((seen - error).contiguous(), thresholds + slack, right=False)
        steps, height = len(thresholds), abs(self.height)
        turned = (within - below).to(error.dtype)
        most = torch.full_like(error, abs(self.offset) + height * steps)
        return roundoff.rounded(torch.cat([most, height * turned]), steps)


_TABLE = sigmoid_table.VALUES.astype(np.float64)


@op
class SigmoidTable(Estimator):
    """A sigmoid in whole numbers: `S' = integer_sigmoid(floor(1024 E)) / 4096`.

    See `psu_deploy.numerics.sigmoid_table`. What is no number stays none.
    """

    def step(self, value: Tensor, context: Context) -> Tensor:
        table, first, last = context.tensor(_TABLE), sigmoid_table.FIRST, sigmoid_table.LAST
        place = (value * sigmoid_table.PER_UNIT).floor().clamp(first, last) - first  # the product is exact
        return torch.where(value.isnan(), value, table[place.nan_to_num().long()])

    def error(self, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """An error e of E gives `f(E + e) - f(E)` or `f(E) - f(E - e)` at most; f itself is exact, and below 1."""
        _, error = pair.chunk(2)  # never 0: hardware that flushes to zero takes what is just below 0 for 0
        seen = _exact(context)
        low, exact, high = (_table_at(e) for e in (seen - error, seen, seen + error))
        return torch.cat([torch.ones_like(error), torch.maximum(high - exact, exact - low).to(error.dtype)])


def _exact(context: Context) -> Tensor:
    assert context.seen is not None, f"the bound of layer {context.name!r} needs its E in exact arithmetic"
    return context.seen


def _table_at(value: Tensor) -> Tensor:
    """The table of the sigmoid at E; differences of its values are exact."""
    z = np.floor(np.clip(value.numpy(), -sigmoid_table.LIMIT, sigmoid_table.LIMIT) * sigmoid_table.PER_UNIT)
    whole = sigmoid_table.integer_sigmoid(np.nan_to_num(z).astype(np.int64))
    return torch.from_numpy(whole / 2**sigmoid_table.VALUE_BITS)
