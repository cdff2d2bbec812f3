"""Pools of torch -> layers of the state machine."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture.conversion import Converter, FunctionRule, Layers
from psu_deploy.capture.convolution import check_channels, tuple_of
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

_AXES: dict[type[nn.Module], int] = {
    kind: axes
    for axes, kinds in enumerate(
        (
            (nn.AvgPool1d, nn.MaxPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
            (nn.AvgPool2d, nn.MaxPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
            (nn.AvgPool3d, nn.MaxPool3d, nn.LPPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
        ),
        1,
    )
    for kind in kinds
}


def avg_pool(module: Any, features: Shape) -> Layers:
    """nn.AvgPool -> AvgPool."""
    return _mean(
        features,
        _axes_of(module),
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        getattr(module, "divisor_override", None),
    )


def max_pool(module: Any, features: Shape) -> Layers:
    """nn.MaxPool -> MaxPool."""
    return _max(
        features,
        _axes_of(module),
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
    )


def lp_pool(module: Any, features: Shape) -> Layers:
    """nn.LPPool -> LPPool."""
    return _norm(features, _axes_of(module), module.norm_type, module.kernel_size, module.stride, module.ceil_mode)


def adaptive_avg_pool(module: Any, features: Shape) -> Layers:
    """nn.AdaptiveAvgPool -> AvgPool where the output size divides the input size, else a matrix per axis."""
    return _adaptive_mean(features, _axes_of(module), module.output_size)


def adaptive_max_pool(module: Any, features: Shape) -> Layers:
    """nn.AdaptiveMaxPool -> MaxPool where the output size divides the input size, else windows, and their maxima."""
    return _adaptive_max(features, _axes_of(module), module.output_size, module.return_indices)


MODULES: dict[type[nn.Module], Converter] = {
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), avg_pool),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), max_pool),
    **dict.fromkeys((nn.LPPool1d, nn.LPPool2d, nn.LPPool3d), lp_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), adaptive_avg_pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), adaptive_max_pool),
}
"""Type -> converter."""


def _mean_function(axes: int) -> FunctionRule:
    def rule(
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Layers:
        return _mean(x.features, axes, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    return rule


def _max_function(axes: int) -> FunctionRule:
    def rule(
        x: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Layers:
        return _max(x.features, axes, kernel_size, stride, padding, dilation, ceil_mode, return_indices)

    return rule


def _norm_function(axes: int) -> FunctionRule:
    def rule(x: Value, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Layers:
        return _norm(x.features, axes, norm_type, kernel_size, stride, ceil_mode)

    return rule


def _adaptive_mean_function(axes: int) -> FunctionRule:
    return lambda x, output_size: _adaptive_mean(x.features, axes, output_size)


def _adaptive_max_function(axes: int) -> FunctionRule:
    def rule(x: Value, output_size: Any, return_indices: bool = False) -> Layers:
        return _adaptive_max(x.features, axes, output_size, return_indices)

    return rule


FUNCTIONS: dict[Callable[..., Any] | str, FunctionRule] = {
    **dict.fromkeys((F.avg_pool1d, torch.avg_pool1d), _mean_function(1)),
    F.avg_pool2d: _mean_function(2),
    F.avg_pool3d: _mean_function(3),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), _max_function(1)),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_function(2)),
    **dict.fromkeys((F.max_pool3d, torch.max_pool3d), _max_function(3)),
    F.lp_pool1d: _norm_function(1),
    F.lp_pool2d: _norm_function(2),
    F.lp_pool3d: _norm_function(3),
    **dict.fromkeys((F.adaptive_avg_pool1d, torch.adaptive_avg_pool1d), _adaptive_mean_function(1)),
    F.adaptive_avg_pool2d: _adaptive_mean_function(2),
    F.adaptive_avg_pool3d: _adaptive_mean_function(3),
    F.adaptive_max_pool1d: _adaptive_max_function(1),
    F.adaptive_max_pool2d: _adaptive_max_function(2),
    F.adaptive_max_pool3d: _adaptive_max_function(3),
}
"""Function -> rule."""


def _axes_of(module: nn.Module) -> int:
    """SpikingJelly's are subclasses of these."""
    return next(_AXES[base] for base in type(module).__mro__ if base in _AXES)


def _mean(
    features: Shape,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_padding: bool,
    divisor: int | None,
) -> ops.Layer:
    if divisor is not None:
        raise Refusal("divisor_override", "scale the next layer's weights instead")
    return ops.AvgPool(*_window(features, axes, kernel_size, stride, padding, ceil_mode), bool(count_padding))


def _max(
    features: Shape,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> ops.Layer:
    if any(d != 1 for d in tuple_of(dilation, 1)) or return_indices:
        raise Refusal("dilation or return_indices", "use a plain MaxPool")
    return ops.MaxPool(*_window(features, axes, kernel_size, stride, padding, ceil_mode))


def _norm(features: Shape, axes: int, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Layers:
    window = _window(features, axes, kernel_size, stride, 0, ceil_mode)
    if norm_type == inf:
        return ops.Activation("abs"), ops.MaxPool(*window)
    if norm_type <= 0:
        raise Refusal(f"norm_type={norm_type:g} is no norm", "use one above 0, or a MaxPool")
    return ops.SumPool(*window) if norm_type == 1 else ops.LPPool(*window, float(norm_type))


def _window(
    features: Shape, axes: int, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> tuple[Shape, Shape, ops.Padding]:
    check_channels(features, axes)
    kernel, pads = tuple_of(kernel_size, axes), tuple_of(padding, axes)
    stride = kernel if stride in (None, (), []) else tuple_of(stride, axes)
    spans = [n + 2 * p - k for n, p, k in zip(features[1:], pads, kernel, strict=True)]
    if ceil_mode and any(span % s for span, s in zip(spans, stride, strict=True)):
        raise Refusal("ceil_mode=True with windows that overhang the edge", "use ceil_mode=False")
    return kernel, stride, tuple((p, p) for p in pads)


def _adaptive_mean(features: Shape, axes: int, output_size: Any) -> Layers:
    output = _output(features, axes, output_size)
    kernel = _divided(features, output)
    if kernel is not None:
        return ops.AvgPool(kernel, kernel, ((0, 0),) * axes)
    return tuple(
        ops.Project(_means(n, w), axis)
        for axis, (n, w) in enumerate(zip(features[1:], output, strict=True), 1)
        if n != w
    )


def _adaptive_max(features: Shape, axes: int, output_size: Any, return_indices: bool) -> Layers:
    if return_indices:
        raise Refusal("return_indices", "use a plain AdaptiveMaxPool")
    output = _output(features, axes, output_size)
    kernel = _divided(features, output)
    if kernel is not None:
        return ops.MaxPool(kernel, kernel, ((0, 0),) * axes)
    layers: list[ops.Layer] = []
    for axis, (n, w) in enumerate(zip(features[1:], output, strict=True), 1):
        windows = [range(*bounds) for bounds in _bounds(n, w)]
        longest = max(map(len, windows))
        # A window that is shorter has its last entry several times: the maximum stays what it is.
        indices = tuple(window[min(i, len(window) - 1)] for window in windows for i in range(longest))
        before, behind = (features[0], *output[: axis - 1]), features[axis + 1 :]
        wide = ops.Reshape((*before, w, longest, *behind))
        layers += [ops.Take(axis, indices), wide, ops.Reduce("max", (axis + 1,))] if n != w else []
    return tuple(layers)


def _output(features: Shape, axes: int, output_size: Any) -> Shape:
    check_channels(features, axes)
    wanted = zip(tuple_of(output_size, axes), features[1:], strict=True)
    return tuple(n if size is None else size for size, n in wanted)


def _divided(features: Shape, output: Shape) -> Shape | None:
    """Size of the windows where all of an axis are of one size; None where they are not."""
    pairs = list(zip(features[1:], output, strict=True))
    return None if any(n % w for n, w in pairs) else tuple(n // w for n, w in pairs)


def _bounds(size: int, windows: int) -> list[tuple[int, int]]:
    """First entry of every window, and the one behind its last, as torch has them."""
    return [(i * size // windows, -(-(i + 1) * size // windows)) for i in range(windows)]


def _means(size: int, windows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    matrix = np.zeros((windows, size))
    for row, (start, end) in enumerate(_bounds(size, windows)):
        matrix[row, start:end] = 1.0 / (end - start)
    return matrix
