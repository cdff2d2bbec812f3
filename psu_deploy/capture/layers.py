"""Stateless torch layers -> layers of the state machine.

A layer with a parametrized weight is converted as the layer it was before, with the weight that the parametrization
makes in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape

Converter = Callable[[Any, Shape], ops.Layer | None]
"""(module, features in) -> layer, or None where the module does nothing in eval mode."""


def array(tensor: Tensor) -> Array:
    """A parameter as float64 numpy."""
    return tensor.detach().cpu().double().numpy()


def linear(module: nn.Linear, features: Shape) -> ops.Layer:
    """nn.Linear -> Linear."""
    return ops.Linear(array(module.weight), None if module.bias is None else array(module.bias))


def conv(module: nn.Conv1d | nn.Conv2d, features: Shape) -> ops.Layer:
    """nn.Conv1d, nn.Conv2d -> Conv1d, Conv2d; zero padding, given or `"same"`."""
    if module.padding_mode != "zeros":
        raise Refusal(f"padding_mode={module.padding_mode!r}", 'use padding_mode="zeros"')
    kind = ops.Conv1d if isinstance(module, nn.Conv1d) else ops.Conv2d
    return kind(
        weight=array(module.weight),
        bias=None if module.bias is None else array(module.bias),
        stride=tuple(module.stride),
        padding=_conv_padding(module),
        dilation=tuple(module.dilation),
        groups=module.groups,
    )


def batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, features: Shape) -> ops.Layer:
    """nn.BatchNorm -> ChannelAffine of its running statistics, in float64."""
    if module.running_mean is None or module.running_var is None:
        raise Refusal("no running statistics: its result depends on the batch", "use track_running_stats=True")
    scale = 1.0 / np.sqrt(array(module.running_var) + module.eps)
    shift = -array(module.running_mean) * scale
    summed = np.abs(shift)
    if module.affine:
        weight, bias = array(module.weight), array(module.bias)
        scale, shift, summed = scale * weight, shift * weight + bias, summed * np.abs(weight) + np.abs(bias)
    return ops.ChannelAffine(scale, shift, summed)


def avg_pool(module: nn.AvgPool1d | nn.AvgPool2d, features: Shape) -> ops.Layer:
    """nn.AvgPool -> AvgPool."""
    if getattr(module, "divisor_override", None) is not None:
        raise Refusal("divisor_override", "scale the next layer's weights instead")
    kernel, stride, padding = _window(module, features)
    return ops.AvgPool(kernel, stride, padding, bool(module.count_include_pad))


def max_pool(module: nn.MaxPool1d | nn.MaxPool2d, features: Shape) -> ops.Layer:
    """nn.MaxPool -> MaxPool."""
    if any(d != 1 for d in _tuple(module.dilation, 1)) or module.return_indices:
        raise Refusal("dilation or return_indices", "use a plain MaxPool")
    return ops.MaxPool(*_window(module, features))


def adaptive_avg_pool(module: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d, features: Shape) -> ops.Layer:
    """nn.AdaptiveAvgPool -> AvgPool, where the output size divides the input size."""
    size = features[1:]
    if len(size) != (1 if isinstance(module, nn.AdaptiveAvgPool1d) else 2):
        raise Refusal(f"does not fit features {features}", "reshape before it")
    wanted = _tuple(module.output_size, len(size))
    output = tuple(n if w is None else w for w, n in zip(wanted, size, strict=True))
    if any(n % w for n, w in zip(size, output, strict=True)):
        raise Refusal(f"output {output} does not divide input {size}: windows differ in size", "use AvgPool")
    kernel = tuple(n // w for n, w in zip(size, output, strict=True))
    return ops.AvgPool(kernel, kernel, ((0, 0),) * len(size))


def nothing(module: nn.Module, features: Shape) -> None:
    """Dropout, Identity: nothing in eval mode."""
    return


def relu(module: nn.Module, features: Shape) -> ops.Layer:
    """nn.ReLU -> Activation."""
    return ops.Activation("relu")


def sigmoid(module: nn.Module, features: Shape) -> ops.Layer:
    """nn.Sigmoid -> Activation."""
    return ops.Activation("sigmoid")


STATELESS: dict[type[nn.Module], Converter] = {
    nn.Linear: linear,
    nn.Conv1d: conv,
    nn.Conv2d: conv,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.AvgPool1d: avg_pool,
    nn.AvgPool2d: avg_pool,
    nn.MaxPool1d: max_pool,
    nn.MaxPool2d: max_pool,
    nn.AdaptiveAvgPool1d: adaptive_avg_pool,
    nn.AdaptiveAvgPool2d: adaptive_avg_pool,
    nn.Dropout: nothing,
    nn.Dropout1d: nothing,
    nn.Dropout2d: nothing,
    nn.AlphaDropout: nothing,
    nn.Identity: nothing,
    nn.ReLU: relu,
    nn.Sigmoid: sigmoid,
}
"""Type -> converter. Exact types: a subclass may compute something else."""

ANY_LAYOUT = (nn.Linear, nn.Dropout, nn.AlphaDropout, nn.Identity, nn.ReLU, nn.Sigmoid)
"""Layers that may be applied to (T, B, ...) directly: they act on the last axis or elementwise."""


def _conv_padding(module: nn.Conv1d | nn.Conv2d) -> ops.Padding:
    if module.padding == "valid":
        return ((0, 0),) * len(module.kernel_size)
    if module.padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    assert not isinstance(module.padding, str)
    return tuple((p, p) for p in module.padding)


def _window(module: Any, features: Shape) -> tuple[Shape, Shape, ops.Padding]:
    axes = 1 if isinstance(module, nn.AvgPool1d | nn.MaxPool1d) else 2
    if len(features) != axes + 1:
        raise Refusal(f"needs channels and {axes} more axes, got features {features}", "reshape before it")
    kernel, padding = _tuple(module.kernel_size, axes), _tuple(module.padding, axes)
    stride = kernel if module.stride is None else _tuple(module.stride, axes)
    spans = [n + 2 * p - k for n, p, k in zip(features[1:], padding, kernel, strict=True)]
    if module.ceil_mode and any(span % s for span, s in zip(spans, stride, strict=True)):
        raise Refusal("ceil_mode=True with windows that overhang the edge", "use ceil_mode=False")
    return kernel, stride, tuple((p, p) for p in padding)


def _tuple(value: Any, length: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * length
