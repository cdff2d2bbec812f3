"""Which modules are one layer, and which are looked into."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import spikingjelly
from psu_deploy.capture.foreign import foreign
from psu_deploy.nn.neurons import PSN, Neuron

NEURONS = (Neuron, PSN)

_CONTAINERS = (
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict),
    *(nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer),
    *(nn.GLU, nn.Softmin, nn.CosineSimilarity),
)
"""Torch's own that are looked into: what their forward calls is understood."""


def is_leaf(module: nn.Module, converted: Collection[type[nn.Module]]) -> bool:
    """Whether a module is one layer: torch's own, neurons, and every type that has a converter."""
    if "forward" in vars(module):  # somebody has put another forward in its place
        return False
    if type_of(module) in converted or spikingjelly.is_layer(module) or foreign(module) is not None:
        return True
    known = type_of(module).__module__.startswith("torch.nn") or isinstance(module, NEURONS)
    return known and not isinstance(module, _CONTAINERS)


def unwrapped(module: nn.Module) -> nn.Module:
    """What stands in a wrapper that only runs it: `torch.compile`, DataParallel, DistributedDataParallel."""
    inner: Any = module
    while True:
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        elif type(inner).__name__ == "OptimizedModule" and hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        else:
            return cast(nn.Module, inner)
