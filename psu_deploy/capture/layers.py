"""Stateless torch layers -> layers of the state machine.

A layer with a parametrized weight is converted as the layer it was before, with the weight that the parametrization
makes in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.capture import convolution, normalisation, pointwise, pooling, resizing
from psu_deploy.capture.conversion import Converter, FunctionRule, array, nothing
from psu_deploy.capture.values import Value
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def linear(module: nn.Linear, features: Shape) -> ops.Layer:
    """nn.Linear -> Linear."""
    return ops.Linear(array(module.weight), None if module.bias is None else array(module.bias))


def linear_function(x: Value, weight: Tensor, bias: Tensor | None = None) -> ops.Layer:
    """F.linear -> Linear."""
    x.axis(-1)
    return ops.Linear(array(weight), None if bias is None else array(bias))


STATELESS: dict[type[nn.Module], Converter] = {
    nn.Linear: linear,
    nn.Dropout: nothing,
    nn.Dropout1d: nothing,
    nn.Dropout2d: nothing,
    nn.Dropout3d: nothing,
    nn.AlphaDropout: nothing,
    nn.Identity: nothing,
    **pointwise.MODULES,
    **normalisation.MODULES,
    **convolution.MODULES,
    **pooling.MODULES,
    **resizing.MODULES,
}
"""Type -> converter. Exact types: a subclass may compute something else."""

ANY_LAYOUT = (
    *(nn.Linear, nn.Dropout, nn.AlphaDropout, nn.Identity),
    *pointwise.ANY_LAYOUT,
    *normalisation.ANY_LAYOUT,
    *resizing.ANY_LAYOUT,
)
"""Layers that may be applied to (T, B, ...) directly: they act on the last axes or elementwise."""

FUNCTIONS: dict[Callable[..., Any] | str, FunctionRule] = {
    F.linear: linear_function,
    **pointwise.FUNCTIONS,
    **normalisation.FUNCTIONS,
    **convolution.FUNCTIONS,
    **pooling.FUNCTIONS,
    **resizing.FUNCTIONS,
}
"""Function, or name of a method -> rule."""
