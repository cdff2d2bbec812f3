"""Normalisations: modules and functions -> layers of the state machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.capture.conversion import Converter, FunctionRule, array
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape


def batch_norm(module: Any, features: Shape) -> ops.Layer:
    """nn.BatchNorm, or an nn.InstanceNorm that tracks statistics -> ChannelAffine of them, in float64."""
    if module.running_mean is None or module.running_var is None:
        raise Refusal("no running statistics: its result depends on the batch", "use track_running_stats=True")
    return _affine(module.running_mean, module.running_var, module.weight, module.bias, module.eps)


def _affine(mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> ops.Layer:
    scale = 1.0 / np.sqrt(array(var) + eps)
    shift = -array(mean) * scale
    summed = np.abs(shift)
    if weight is not None:
        scale, shift, summed = scale * array(weight), shift * array(weight), summed * np.abs(array(weight))
    if bias is not None:
        shift, summed = shift + array(bias), summed + np.abs(array(bias))
    return ops.ChannelAffine(scale, shift, summed)


def instance_norm(module: nn.InstanceNorm1d | nn.InstanceNorm2d, features: Shape) -> ops.Layer:
    """nn.InstanceNorm -> GroupNorm with one channel per group, where it tracks no statistics."""
    if module.running_mean is not None:
        return batch_norm(module, features)
    axes = 1 if isinstance(module, nn.InstanceNorm1d) else 2
    if len(features) != axes + 1:
        raise Refusal(f"needs channels and {axes} more axes, got features {features}", "reshape before it")
    return ops.GroupNorm(features[0], module.eps, _optional(module.weight), _optional(module.bias))


def group_norm(module: nn.GroupNorm, features: Shape) -> ops.Layer:
    """nn.GroupNorm -> GroupNorm."""
    return ops.GroupNorm(module.num_groups, module.eps, _optional(module.weight), _optional(module.bias))


def layer_norm(module: nn.LayerNorm, features: Shape) -> ops.Layer:
    """nn.LayerNorm -> LayerNorm."""
    shape = tuple(module.normalized_shape)
    return ops.LayerNorm(shape, module.eps, _optional(module.weight), _optional(module.bias))


def rms_norm(module: nn.RMSNorm, features: Shape) -> ops.Layer:
    """nn.RMSNorm -> RMSNorm; without eps it takes that of its numbers."""
    if module.eps is None and module.weight is None:
        raise Refusal("eps=None: its result depends on the precision it runs in", "use eps=1e-6, or a number of yours")
    eps = torch.finfo(module.weight.dtype).eps if module.eps is None else module.eps
    return ops.RMSNorm(tuple(module.normalized_shape), eps, _optional(module.weight))


def _optional(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else array(tensor)


def _batch_norm(
    x: Value,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> ops.Layer:
    if training or running_mean is None or running_var is None:
        raise Refusal("no running statistics: its result depends on the batch", "pass training=self.training")
    return _affine(running_mean, running_var, weight, bias, eps)


def _instance_norm(
    x: Value,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> ops.Layer:
    if not use_input_stats:
        assert running_mean is not None, "torch has refused this before"
        assert running_var is not None
        return _affine(running_mean, running_var, weight, bias, eps)
    return ops.GroupNorm(x.features[0], eps, _optional(weight), _optional(bias))


def _layer_norm(
    x: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn_enable: bool = True
) -> ops.Layer:
    return ops.LayerNorm(_shape(normalized_shape), eps, _optional(weight), _optional(bias))


def _rms_norm(x: Value, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> ops.Layer:
    eps = torch.finfo(x.tensor.dtype).eps if eps is None else eps
    return ops.RMSNorm(_shape(normalized_shape), eps, _optional(weight))


def _group_norm(
    x: Value, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn_enabled: bool = True
) -> ops.Layer:
    return ops.GroupNorm(num_groups, eps, _optional(weight), _optional(bias))


def _shape(normalized_shape: Any) -> Shape:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


MODULES: dict[type[nn.Module], Converter] = {
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    nn.InstanceNorm1d: instance_norm,
    nn.InstanceNorm2d: instance_norm,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
}
"""Type -> converter. Exact types: a subclass may compute something else."""

ANY_LAYOUT = (nn.LayerNorm, nn.RMSNorm)
"""Those that act on the last axes, so that they may be applied to (T, B, ...) directly."""

FUNCTIONS: dict[Any, FunctionRule] = {
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
}
"""Function -> rule."""
