"""Containers for networks over sequences (T, B, ...).

Stateless layers (Linear, Conv, BatchNorm, pooling, ...) know nothing of time: they see all steps at once,
as one batch of T*B. Neurons work along time. `SpikingSequential` tells them apart by itself;
in a hand-written forward, wrap stateless layers in `Lift`.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons.base import TimeFirst


class Lift(TimeFirst):
    """Apply a stateless layer to every step at once: (T, B, ...) -> (T*B, ...) -> layer -> (T, B, ...).

    Args:
        layer: any module without state in time.

    Shapes: (T, B, ...) in, (T, B, ...) out.

    Raises:
        InputError: if a module that works along time would be lifted: its steps would be mixed with the batch.

    >>> import torch
    >>> Lift(nn.Conv1d(3, 8, 5))(torch.zeros(16, 4, 3, 20)).shape
    torch.Size([16, 4, 8, 16])
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        _refuse_time_inside(layer)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _lift(self.layer, x)


class SpikingSequential(TimeFirst):
    """Layers one after the other over a sequence; stateless ones are lifted over time.

    Args:
        layers: neurons, stateless layers and further containers, in order. Parameter names are those of
            `torch.nn.Sequential`.

    Shapes: (T, B, ...) in, (T, B, ...) out.

    Raises:
        InputError: if a module that works along time would be lifted: its steps would be mixed with the batch.

    >>> import torch
    >>> from psu_deploy.nn.neurons import PSU
    >>> SpikingSequential(nn.Linear(8, 32), PSU(), nn.Linear(32, 10))(torch.zeros(16, 4, 8)).shape
    torch.Size([16, 4, 10])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            if not isinstance(layer, TimeFirst):
                _refuse_time_inside(layer)
            self.add_module(str(index), layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x) if isinstance(layer, TimeFirst) else _lift(layer, x)
        return x

    def __iter__(self) -> Iterator[nn.Module]:
        # Not children(): it lists a module that is used twice only once.
        return iter(layer for layer in self._modules.values() if layer is not None)

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> nn.Module:
        return list(self)[index]


class Residual(TimeFirst):
    """`y = x + body(x)`, or `shortcut(x) + body(x)`.

    Args:
        layers: the body, as for `SpikingSequential`.
        shortcut: what the skip connection goes through where the shapes differ, such as a 1x1 convolution.

    Shapes: (T, B, ...) in, (T, B, ...) out.

    Raises:
        InputError: if a module that works along time would be lifted: its steps would be mixed with the batch.

    >>> import torch
    >>> from psu_deploy.nn.neurons import PSU
    >>> Residual(nn.Linear(8, 8), PSU())(torch.zeros(16, 4, 8)).shape
    torch.Size([16, 4, 8])
    """

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = SpikingSequential(*layers)
        self.shortcut = SpikingSequential() if shortcut is None else SpikingSequential(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        skipped: Tensor = self.shortcut(x)
        added: Tensor = skipped + self.body(x)
        return added


def _lift(layer: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = layer(x.flatten(0, 1))
    sequence: Tensor = y.unflatten(0, x.shape[:2])  # type: ignore[no-untyped-call]
    return sequence


def _refuse_time_inside(layer: nn.Module) -> None:
    inside = [name or "itself" for name, module in layer.named_modules() if isinstance(module, TimeFirst)]
    if inside:
        raise InputError(
            f"{type(layer).__name__} holds a module that works along time ({', '.join(inside)}) and cannot be lifted: "
            "its steps would be mixed with the batch. Use SpikingSequential instead of it"
        )
