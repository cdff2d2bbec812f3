"""What a converter is, and what converters share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape


@dataclass(frozen=True)
class FirstStep:
    """A current in the first step only, before a neuron whose potential does not start at rest.

    Args:
        current: added to every entry of the input.
    """

    current: float


Layers = ops.Layer | tuple[ops.Layer, ...] | None
"""What a module or a function becomes: a layer, layers one after the other, or None where it does nothing."""

Chain = tuple[ops.Layer | FirstStep, ...]
"""What a neuron becomes: layers one after the other, one of them the neuron."""

Converter = Callable[[Any, Shape], Layers | Chain]
"""(module, features in) -> layers, None where the module does nothing in eval mode."""

FunctionRule = Callable[..., Layers]
"""(x, *args, **kwargs) of a torch function or tensor method -> layer. x is the `Value` it is applied to, tells its
`features` and which feature axis a `dim` is; whatever else it takes is concrete: numbers, names, parameters."""


def array(tensor: Tensor) -> Array:
    """A parameter as float64 numpy."""
    return tensor.detach().cpu().double().numpy()


def nothing(module: nn.Module, features: Shape) -> None:
    """Dropout, Identity: nothing in eval mode."""
    return
