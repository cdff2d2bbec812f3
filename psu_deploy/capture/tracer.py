"""Which modules torch.fx looks into, and which are one layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture import spikingjelly
from psu_deploy.nn.neurons import PSN, Neuron

ROOT = "model"
NEURONS = (Neuron, PSN)


class Root(nn.Module):
    """Gives the model a name, so that a bare neuron is a module call like any other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class Tracer(fx.Tracer):
    """Stops at torch layers, neurons, and every type that has a converter.

    Args:
        leaves: types with a converter.
    """

    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if type_of(m) in self._leaves or spikingjelly.is_layer(m):
            return True
        known = type_of(m).__module__.startswith("torch.nn") or isinstance(m, NEURONS)
        return known and not isinstance(m, nn.Sequential | Root)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if spikingjelly.is_folding_container(m):
            return spikingjelly.fold(m, *args, **kwargs)
        return super().call_module(m, forward, args, kwargs)
