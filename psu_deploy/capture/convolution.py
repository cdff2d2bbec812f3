"""Convolutions of torch -> layers of the state machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.capture.conversion import Converter, FunctionRule, Layers, array
from psu_deploy.capture.resizing import edges
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

_KINDS: tuple[type[Any], ...] = (ops.Conv1d, ops.Conv2d, ops.Conv3d)
_TRANSPOSED: tuple[type[Any], ...] = (ops.ConvTranspose1d, ops.ConvTranspose2d)


def conv(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, features: Shape) -> Layers:
    """nn.Conv1d, nn.Conv2d, nn.Conv3d -> the same; padding other than with zeros is a layer of its own before it."""
    axes = len(module.kernel_size)
    padding = _padding(module.padding, module.kernel_size, module.dilation)
    around: tuple[ops.Layer, ...] = ()
    if module.padding_mode != "zeros":
        check_channels(features, axes)
        around, padding = edges(((0, 0), *padding), features, module.padding_mode), ((0, 0),) * axes
    layer = _conv(module.weight, module.bias, module.stride, padding, module.dilation, module.groups)
    return (*around, layer) if around else layer


def conv_transpose(module: nn.ConvTranspose1d | nn.ConvTranspose2d, features: Shape) -> Layers:
    """nn.ConvTranspose1d, nn.ConvTranspose2d -> the same."""
    assert not isinstance(module.padding, str)
    return _transposed(
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        module.output_padding,
        module.groups,
        module.dilation,
    )


MODULES: dict[type[nn.Module], Converter] = {
    nn.Conv1d: conv,
    nn.Conv2d: conv,
    nn.Conv3d: conv,
    nn.ConvTranspose1d: conv_transpose,
    nn.ConvTranspose2d: conv_transpose,
}
"""Type -> converter."""


def check_channels(features: Shape, axes: int) -> None:
    """Raise `Refusal` unless features are channels and so many axes: torch would take (L, ...) for (C, ...) else."""
    if len(features) != axes + 1:
        raise Refusal(f"needs channels and {axes} more axes, got features {features}", "reshape before it")


def _function(axes: int) -> FunctionRule:
    def rule(
        x: Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Layers:
        check_channels(x.features, axes)
        stride, dilation = tuple_of(stride, axes), tuple_of(dilation, axes)
        pads = _padding(padding, tuple(weight.shape[2:]), dilation)
        return _conv(weight, bias, stride, pads, dilation, groups)

    return rule


def _transposed_function(axes: int) -> FunctionRule:
    def rule(
        x: Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Layers:
        check_channels(x.features, axes)
        stride, dilation = tuple_of(stride, axes), tuple_of(dilation, axes)
        padding, output_padding = tuple_of(padding, axes), tuple_of(output_padding, axes)
        return _transposed(weight, bias, stride, padding, output_padding, groups, dilation)

    return rule


FUNCTIONS: dict[Callable[..., Any] | str, FunctionRule] = {
    **dict.fromkeys((F.conv1d, torch.conv1d), _function(1)),
    **dict.fromkeys((F.conv2d, torch.conv2d), _function(2)),
    **dict.fromkeys((F.conv3d, torch.conv3d), _function(3)),
    **dict.fromkeys((F.conv_transpose1d, torch.conv_transpose1d), _transposed_function(1)),
    **dict.fromkeys((F.conv_transpose2d, torch.conv_transpose2d), _transposed_function(2)),
}
"""Function -> rule."""


def tuple_of(value: Any, length: int) -> tuple[Any, ...]:
    """A size per axis, of one number or of several."""
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    return given * length if len(given) == 1 else given


def _conv(
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: ops.Padding,
    dilation: Sequence[int],
    groups: int,
) -> ops.Layer:
    layer: ops.Layer = _KINDS[weight.ndim - 3](
        weight=array(weight),
        bias=None if bias is None else array(bias),
        stride=tuple(stride),
        padding=padding,
        dilation=tuple(dilation),
        groups=groups,
    )
    return layer


def _transposed(
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> ops.Layer:
    layer: ops.Layer = _TRANSPOSED[weight.ndim - 3](
        weight=array(weight),
        bias=None if bias is None else array(bias),
        stride=tuple(stride),
        padding=tuple((p, p) for p in padding),
        output_padding=tuple(output_padding),
        dilation=tuple(dilation),
        groups=groups,
    )
    return layer


def _padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> ops.Padding:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    return tuple((p, p) for p in tuple_of(padding, len(kernel)))
