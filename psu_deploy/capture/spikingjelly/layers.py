"""Layers of SpikingJelly -> layers of the state machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from psu_deploy.capture import convolution, layers, normalisation
from psu_deploy.capture.conversion import Converter, array, nothing
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

ANY_LAYOUT = ("layer.Linear", "layer.WSLinear", "layer.Dropout", "layer.Dropout2d")
"""Layers that do the same to (T, B, ...) and (T*B, ...), whatever their step mode says."""


def as_torch(kind: type[nn.Module]) -> Converter | None:
    """The converter of the torch layer that a layer of SpikingJelly is, with a step mode besides."""
    return next(
        (layers.STATELESS[b] for b in kind.__mro__ if b in layers.STATELESS and b.__name__ == kind.__name__), None
    )


def _standardised_conv(module: Any, features: Shape) -> ops.Layer:
    """WSConv2d: a convolution whose weight is standardised."""
    conv = convolution.conv(module, features)
    assert isinstance(conv, ops.Conv2d)
    return replace(conv, weight=array(module.get_weight()))


def _standardised_linear(module: Any, features: Shape) -> ops.Layer:
    """WSLinear: likewise."""
    return ops.Linear(array(module.get_weight()), None if module.bias is None else array(module.bias))


def _voting(module: Any, features: Shape) -> ops.Layer:
    """VotingLayer: means of neighbours; what is left over at the end has no vote."""
    size = int(module.voting_size)
    voters = np.kron(np.eye(features[0] // size), np.full((1, size), 1.0 / size))
    return ops.Linear(np.pad(voters, ((0, 0), (0, features[0] % size))), None)


def _delay(module: Any, features: Shape) -> ops.Layer | None:
    """Delay: by no step at all it is nothing."""
    return ops.Delay(int(module.delay_steps)) if module.delay_steps else None


LAYERS: dict[str, Converter] = {
    "layer.ThresholdDependentBatchNorm1d": normalisation.batch_norm,  # in eval mode a plain BatchNorm
    "layer.ThresholdDependentBatchNorm2d": normalisation.batch_norm,
    "layer.ThresholdDependentBatchNorm3d": normalisation.batch_norm,
    "layer.WSConv2d": _standardised_conv,
    "layer.WSLinear": _standardised_linear,
    "layer.Dropout": nothing,
    "layer.Dropout2d": nothing,
    "layer.VotingLayer": _voting,
    "layer.Delay": _delay,
}
"""Name -> converter; a layer named like one of torch that it derives from is converted as that: `as_torch`."""
