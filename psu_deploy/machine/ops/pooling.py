"""Pools over the axes behind the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.elementary import Power, known, power_roundings, reach_of
from psu_deploy.machine.ops.fields import Shape, finite, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.machine.ops.sliding import Padding, pad, padded_size, slide

__all__ = ["AvgPool", "LPPool", "MaxPool", "SumPool"]


_MEANS: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_MAXIMA: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@dataclass(frozen=True, eq=False)
class _Pool(Layer):
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding

    def __post_init__(self) -> None:
        whole_numbers(self, "kernel", 1)
        whole_numbers(self, "stride", 1, len(self.kernel))
        pairs(self, "padding", len(self.kernel))
        if len(self.kernel) not in (1, 2, 3):
            raise InputError(f"{type(self).__name__} slides over one, two or three axes, got kernel {self.kernel}")

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != len(self.kernel) + 1:
            raise InputError(f"{type(self).__name__} needs channels and {len(self.kernel)} more axes, got {inputs[0]}")
        spatial = slide(inputs[0][1:], self.kernel, self.stride, self.padding, (1,) * len(self.kernel))
        if not self._pads_enter and self._sees_padding_alone(inputs[0][1:], spatial):
            raise InputError(
                f"{type(self).__name__}: a window of {self.kernel} lies in the padding {self.padding} alone and has no "
                f"value; pad less than a window"
            )
        return (inputs[0][0], *spatial)

    @property
    def _pads_enter(self) -> bool:
        """Whether padded zeros count as numbers."""
        return True

    @property
    def _divides(self) -> bool:
        """Whether the sum is divided by the size of the window."""
        return False

    def _sees_padding_alone(self, size: Shape, places: Shape) -> bool:
        """Whether the first or the last window along an axis meets nothing of the input."""
        axes = zip(size, places, self.kernel, self.stride, self.padding, strict=True)
        return any(before >= k or (count - 1) * s >= before + n for n, count, k, s, (before, _) in axes)

    def workspace(self, *inputs: Shape) -> int:
        """The input padded."""
        return padded_size(inputs[0], self.padding)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Numbers of spikes are whole, and a power of two divides them without rounding."""
        size = prod(self.kernel)
        if context.binary and self._pads_enter and size & (size - 1) == 0:
            return self.step(inputs, context)
        terms = size + (0 if self._pads_enter else 2)
        return self._sum_error(inputs, context, roundoff, terms, divisor=size if self._divides else 1)


@op
class AvgPool(_Pool):
    """Mean over a sliding window of one, two or three axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
        count_padding: whether padded zeros count in the divisor.
    """

    count_padding: bool = True

    @property
    def _pads_enter(self) -> bool:
        return self.count_padding

    @property
    def _divides(self) -> bool:
        return True

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        pool = _MEANS[len(self.kernel) - 1]
        mean = pool(pad(inputs[0], self.padding), self.kernel, self.stride)
        if self.count_padding:
            return mean
        return mean / pool(pad(torch.ones_like(inputs[0]), self.padding), self.kernel, self.stride)


@op
class SumPool(_Pool):
    """Sum over a sliding window of one, two or three axes, padded with zeros.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
    """

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        # Two axes at least: avg_pool1d cannot be told not to divide, and a mean times its size rounds.
        one_axis = len(self.kernel) == 1
        x = pad(inputs[0], self.padding)
        x = x.unsqueeze(-2) if one_axis else x
        kernel, stride = ((1, *self.kernel), (1, *self.stride)) if one_axis else (self.kernel, self.stride)
        total = _MEANS[len(kernel) - 1](x, kernel, stride, divisor_override=1)
        return total.squeeze(-2) if one_axis else total


@op
class MaxPool(_Pool):
    """Maximum over a sliding window of one, two or three axes; padding never wins.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) per axis.
    """

    keeps_spikes = True

    @property
    def _pads_enter(self) -> bool:
        return False

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        pool = _MAXIMA[len(self.kernel) - 1]
        return pool(pad(inputs[0], self.padding, -torch.inf), self.kernel, self.stride)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """A maximum is as large, and as far off, as the largest and the worst of all at most."""
        return self.step(inputs, context)


@op
class LPPool(_Pool):
    """The p-norm of a sliding window of one, two or three axes, padded with zeros.

        y = (sum of x**p) ** (1/p)

    Signs count, as in torch: no value, NaN, where x < 0 and p is no whole number, and where the sum is below zero.

    Args:
        kernel: window per axis.
        stride: per axis.
        padding: (before, after) zeros per axis.
        norm: p, above 0.
    """

    norm: float

    bound_sees_inputs = True

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self, "norm")
        if self.norm <= 0 or not isfinite(1 / self.norm):
            raise InputError(f"LPPool.norm must be above 0, got {self.norm!r}")

    @property
    def _parts(self) -> tuple[Power, SumPool, Power]:
        return Power(self.norm), SumPool(self.kernel, self.stride, self.padding), Power(1 / self.norm)

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        power, total, root = self._parts
        return root.step([total.step([power.step(inputs, context)], context)], context)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Where a term may be below zero, the sum may come near to zero, where the root is steep: part by part."""
        x = context.exact[0]
        reach = reach_of(inputs[0], x)
        of_sizes = self._of_sizes(x.abs(), reach, context, roundoff)
        if self.norm % 2 == 0:
            return of_sizes
        power, total, root = self._parts
        pair = total.error([power.error(inputs, context, roundoff)], context, roundoff)
        summed = total.step([power.step([x], context)], context)
        by_parts = root.error([pair], replace(context, exact=[summed]), roundoff)
        below = MaxPool(self.kernel, self.stride, self.padding).step([reach - x], context) > 0
        return torch.where(torch.cat([below, below]), by_parts, of_sizes)

    def _of_sizes(self, size: Tensor, reach: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """Of terms that are not below zero: the norm rises with each, so it lies between those of the two ends."""
        power, total, root = self._parts
        raised = [power.step([end], context) for end in (size + reach, (size - reach).clamp(min=0))]
        terms = prod(self.kernel)
        rounding = raised[0] * (power_roundings(self.norm, size + reach) + terms + 2) * roundoff.unit
        own = total.step([rounding], context) + terms * roundoff.tiny
        highest, lowest = (total.step([end], context) for end in raised)
        high, low = (root.step([end], context) for end in (highest + own, (lowest - own).clamp(min=0)))
        value = self.step([size], context)
        last = power_roundings(1 / self.norm, highest + own) * roundoff.unit * high
        return known(value, (high - value).maximum(value - low) + last, highest < 1 / roundoff.tiny, roundoff)
