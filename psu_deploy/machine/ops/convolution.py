"""Convolutions over the axes behind the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, freeze, freeze_bias, pairs, whole_numbers
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.machine.ops.sliding import Padding, pad, padded_size, slide
from psu_deploy.numerics.checks import is_whole

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"]


@dataclass(frozen=True, eq=False)
class _Conv(Layer):
    weight: Array
    bias: Array | None
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int

    axes: ClassVar[int] = 0
    _convolve: ClassVar[Any]

    def __post_init__(self) -> None:
        freeze(self, "weight", self.axes + 2)
        freeze_bias(self)
        whole_numbers(self, "stride", 1, self.axes)
        whole_numbers(self, "dilation", 1, self.axes)
        pairs(self, "padding", self.axes)
        if not is_whole(self.groups) or self.groups < 1 or self.weight.shape[0] % self.groups:
            raise InputError(
                f"{type(self).__name__}: groups={self.groups} does not divide {self.weight.shape[0]} channels"
            )

    def output_shape(self, *inputs: Shape) -> Shape:
        channels = self.weight.shape[1] * self.groups
        if len(inputs[0]) != self.axes + 1 or inputs[0][0] != channels:
            raise InputError(
                f"{type(self).__name__} needs {channels} channels and {self.axes} more axes, got {inputs[0]}"
            )
        spatial = slide(inputs[0][1:], self.weight.shape[2:], self.stride, self.padding, self.dilation)
        return (self.weight.shape[0], *spatial)

    def workspace(self, *inputs: Shape) -> int:
        """The input padded, and unfolded: a patch of it for every place of the output."""
        places = prod(self.output_shape(*inputs)[1:])
        return padded_size(inputs[0], self.padding) + prod(self.weight.shape[1:]) * self.groups * places

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        weight, bias = context.tensor(self.weight), None if self.bias is None else context.tensor(self.bias)
        x = pad(inputs[0], self.padding)
        result: Tensor = self._convolve(x, weight, bias, self.stride, 0, self.dilation, self.groups)
        return result

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """Products with an exact zero round nothing, where it is these products that are added up."""
        terms = self._terms(inputs[0], roundoff) if roundoff.convolves_directly else prod(self.weight.shape[1:])
        return self._sum_error(inputs, context, roundoff, terms, self.bias)

    def _terms(self, pair: Tensor, roundoff: Roundoff) -> Tensor:
        """How many inputs that are not zero meet in every place: (B, C_out, *places), or (B, 1, *places)."""
        live = (pair.chunk(2)[0] != 0).to(roundoff.dtype)
        counts = live.reshape(len(live), self.groups, -1, *live.shape[2:]).sum(2)
        ones = counts.new_ones(self.groups, 1, *self.weight.shape[2:])
        met: Tensor = self._convolve(pad(counts, self.padding), ones, None, self.stride, 0, self.dilation, self.groups)
        return met if self.groups == 1 else met.repeat_interleave(self.weight.shape[0] // self.groups, 1)


@op
class Conv1d(_Conv):
    """Cross-correlation over one axis: (C_in, L) -> (C_out, L'), zero padding.

    Args:
        weight: (C_out, C_in/groups, k).
        bias: (C_out,) or None.
        stride: (s,) in samples.
        padding: ((before, after),) zeros.
        dilation: (d,) in samples.
        groups: number of groups.
    """

    axes = 1
    _convolve = staticmethod(F.conv1d)


@op
class Conv2d(_Conv):
    """Cross-correlation over two axes: (C_in, H, W) -> (C_out, H', W'), zero padding.

    Args:
        weight: (C_out, C_in/groups, kh, kw).
        bias: (C_out,) or None.
        stride: (sh, sw) in pixels.
        padding: ((top, bottom), (left, right)) zeros.
        dilation: (dh, dw) in pixels.
        groups: number of groups.
    """

    axes = 2
    _convolve = staticmethod(F.conv2d)


@op
class Conv3d(_Conv):
    """Cross-correlation over three axes: (C_in, D, H, W) -> (C_out, D', H', W'), zero padding.

    Args:
        weight: (C_out, C_in/groups, kd, kh, kw).
        bias: (C_out,) or None.
        stride: (sd, sh, sw) in pixels.
        padding: ((front, back), (top, bottom), (left, right)) zeros.
        dilation: (dd, dh, dw) in pixels.
        groups: number of groups.
    """

    axes = 3
    _convolve = staticmethod(F.conv3d)


@dataclass(frozen=True, eq=False)
class _ConvTranspose(Layer):
    weight: Array
    bias: Array | None
    stride: tuple[int, ...]
    padding: Padding
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    axes: ClassVar[int] = 0
    _convolve: ClassVar[Any]

    def __post_init__(self) -> None:
        freeze(self, "weight", self.axes + 2)
        freeze(self, "bias", 1, optional=True)
        whole_numbers(self, "stride", 1, self.axes)
        whole_numbers(self, "dilation", 1, self.axes)
        whole_numbers(self, "output_padding", 0, self.axes)
        pairs(self, "padding", self.axes)
        kind, inputs = type(self).__name__, self.weight.shape[0]
        if not is_whole(self.groups) or self.groups < 1 or inputs % self.groups:
            raise InputError(f"{kind}: groups={self.groups} does not divide {inputs} channels")
        if self.bias is not None and len(self.bias) != self.channels:
            raise InputError(f"{kind}: bias has {len(self.bias)} entries for {self.channels} outputs")
        if any(o >= max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)):
            raise InputError(f"{kind}: output_padding {self.output_padding} must be below the stride or the dilation")

    @property
    def channels(self) -> int:
        """C_out."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def terms(self) -> int:
        """Products in one entry: dilated by d, every (s / gcd(s, d))-th entry of the kernel meets the same output."""
        taps = zip(self.weight.shape[2:], self.stride, self.dilation, strict=True)
        return int(self.weight.shape[0] // self.groups * prod(-(-k // (s // gcd(s, d))) for k, s, d in taps))

    def output_shape(self, *inputs: Shape) -> Shape:
        if len(inputs[0]) != self.axes + 1 or inputs[0][0] != self.weight.shape[0]:
            raise InputError(
                f"{type(self).__name__} needs {self.weight.shape[0]} channels and {self.axes} more axes, "
                f"got {inputs[0]}"
            )
        whole = self._whole(inputs[0])
        size = tuple(n - sum(pair) for n, pair in zip(whole, self.padding, strict=True))
        if min(size) < 1:
            raise InputError(f"{type(self).__name__} cuts off {self.padding} of a result of {whole}: nothing is left")
        return (self.channels, *size)

    def workspace(self, *inputs: Shape) -> int:
        """The result before its edges are cut off, and every product before they are summed."""
        products = prod(self.weight.shape[1:]) * self.groups * prod(inputs[0][1:])
        return self.channels * prod(self._whole(inputs[0])) + products

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        weight, bias = context.tensor(self.weight), None if self.bias is None else context.tensor(self.bias)
        whole: Tensor = self._convolve(
            inputs[0], weight, bias, self.stride, 0, self.output_padding, self.groups, self.dilation
        )
        for axis, (before, after) in enumerate(self.padding, 2):
            whole = whole.narrow(axis, before, whole.shape[axis] - before - after)
        return whole

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, self.terms, self.bias)

    def _whole(self, features: Shape) -> Shape:
        """Size per axis before the padding is cut off."""
        sizes = zip(features[1:], self.weight.shape[2:], self.stride, self.dilation, self.output_padding, strict=True)
        return tuple((n - 1) * s + d * (k - 1) + 1 + extra for n, k, s, d, extra in sizes)


@op
class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over one axis: (C_in, L) -> (C_out, L'), every input spread over a kernel.

        y[s*i + d*j - before] = sum_i W[j] x[i] + b

    Args:
        weight: (C_in, C_out/groups, k), as torch has it.
        bias: (C_out,) or None.
        stride: (s,) in samples.
        padding: ((before, after),) entries of the result that are cut off.
        output_padding: (n,) entries behind the end of the result.
        dilation: (d,) in samples.
        groups: number of groups.
    """

    axes = 1
    _convolve = staticmethod(F.conv_transpose1d)


@op
class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution over two axes: (C_in, H, W) -> (C_out, H', W'), every input spread over a kernel.

    Args:
        weight: (C_in, C_out/groups, kh, kw), as torch has it.
        bias: (C_out,) or None.
        stride: (sh, sw) in pixels.
        padding: ((top, bottom), (left, right)) entries of the result that are cut off.
        output_padding: (nh, nw) entries behind the end of the result.
        dilation: (dh, dw) in pixels.
        groups: number of groups.
    """

    axes = 2
    _convolve = staticmethod(F.conv_transpose2d)
