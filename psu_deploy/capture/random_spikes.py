"""Makes neurons spike at random, so that what stands behind silent ones is exercised too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def random_spikes(like: Tensor, seed: int) -> Tensor:
    """Spikes at random, one in two, of the given tensor's shape, dtype and device."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(like.shape, generator=generator) < 0.5).to(like)


@contextmanager
def spiking_at_random(model: nn.Module, paths: Sequence[str]) -> Iterator[list[Any]]:
    """Let the modules at `paths` emit random spikes, the same in every such context.

    Yields:
        The list of what they are fed, in the order of the calls.
    """
    currents: list[Any] = []

    def spike(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
        del module
        currents.append((*args, *kwargs.values())[0].clone())
        return random_spikes(output, len(currents))

    modules = dict(model.named_modules())
    handles = [modules.get(path, model).register_forward_hook(spike, with_kwargs=True) for path in dict.fromkeys(paths)]
    try:
        yield currents
    finally:
        for handle in handles:
            handle.remove()
