"""Samples changed at random while training, each one in its own way: torch only.

Shapes: (B, ..., H, W) in and out; what lies between is changed alike: colours of an image, steps of a sequence. All
draws come from torch's global generator of the CPU, so that a seed gives the same batch on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_AREA = (0.02, 1 / 3)
_ASPECT = 0.3
"""Smallest height over width of what is erased; the largest is its inverse."""


def cropped(batch: Tensor, margin: int = 4) -> Tensor:
    """Moved by up to so many pixels, up or down and sideways: cut out of the sample with zeros around it."""
    size, height, width = len(batch), batch.shape[-2], batch.shape[-1]
    padded = F.pad(batch, (margin,) * 4).flatten(1, -3)
    top, left = (torch.randint(2 * margin + 1, (size, 1)).to(batch.device) for _ in range(2))
    rows = top + torch.arange(height, device=batch.device)
    columns = left + torch.arange(width, device=batch.device)
    sample = torch.arange(size, device=batch.device)[:, None, None]
    cut = padded[sample, :, rows[:, :, None], columns[:, None, :]]
    return cut.movedim(-1, 1).reshape(batch.shape)


def flipped(batch: Tensor) -> Tensor:
    """Left and right exchanged, in half of the samples."""
    return torch.where(_chosen(batch, 0.5), batch.flip(-1), batch)


def rotated(batch: Tensor, degrees: float = 15.0) -> Tensor:
    """Turned by up to so many degrees, either way; the nearest pixel, and zero from outside."""
    angle = ((2 * torch.rand(len(batch)) - 1) * math.radians(degrees)).to(batch.device)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    flat = batch.flatten(1, -3)
    grid = F.affine_grid(turn, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, mode="nearest", align_corners=False).reshape(batch.shape)


def erased(batch: Tensor, mean: Tensor, deviation: Tensor, probability: float = 0.25) -> Tensor:
    """A rectangle of noise instead of pixels, in so many of the samples: random erasing, arXiv 1708.04896.

    Its area is 2 % to 33 % of the image, its height 0.3 to 3.3 times its width; it ends where the image ends.

    Args:
        batch: of bytes (B, C, H, W).
        mean: of the noise, in bytes, (C, 1, 1).
        deviation: of the noise, in bytes, (C, 1, 1).
        probability: that a sample is changed.
    """
    size, height, width = len(batch), batch.shape[-2], batch.shape[-1]
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * torch.rand(size))
    aspect = torch.exp((2 * torch.rand(size) - 1) * math.log(1 / _ASPECT))
    rows, columns = (
        _between(edge, length) for edge, length in (((area * aspect).sqrt(), height), ((area / aspect).sqrt(), width))
    )
    inside = (rows[:, :, None] & columns[:, None, :])[:, None].to(batch.device) & _chosen(batch, probability)
    noise = (mean + deviation * torch.randn(batch.shape)).round().clamp(0, 255)
    return torch.where(inside, noise.to(batch), batch)


def _between(edge: Tensor, length: int) -> Tensor:
    """(B, length): true along an edge of that length that begins anywhere it fits."""
    edge = edge.round().clamp(1, length)
    start = (torch.rand(len(edge)) * (length - edge + 1)).floor()
    place = torch.arange(length)
    return (place >= start[:, None]) & (place < (start + edge)[:, None])


def _chosen(batch: Tensor, probability: float) -> Tensor:
    """(B, 1, 1, ...): whether this sample is changed."""
    return (torch.rand(len(batch)) < probability).reshape(-1, *(1,) * (batch.ndim - 1)).to(batch.device)
