"""Makes neurons spike at random, so that what stands behind silent ones is exercised too."""

from __future__ import annotations

import torch
from torch import Tensor


def random_spikes(like: Tensor, seed: int) -> Tensor:
    """Spikes at random, one in two, of the given tensor's shape, dtype and device."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(like.shape, generator=generator) < 0.5).to(like)
