"""RandAugment (arXiv 1909.13719): some of fifteen changes of an image, drawn for every sample; torch only.

The changes and their strengths are those of timm's `rand-m9-mstd0.5-inc1`, which the scripts of arXiv 2402.00449 name:
the stronger, the further from the image. What Pillow computes in bytes is computed like that here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_STRONGEST = 10.0
_LUMA = (19595, 38470, 7471)
"""Of red, green and blue, in 65536ths."""


@dataclass(frozen=True)
class Change:
    """One of the changes. An image is bytes as float64 numbers; n, that of every image, has the shape (N, 1, 1, 1).

    Args:
        apply: (images (N, 3, H, W), n, colour (3, 1, 1) of what comes from outside) -> images.
        amount: (strength in 0..1, sign -1 or 1) -> n.
    """

    apply: Callable[[Tensor, Tensor, Tensor], Tensor]
    amount: Callable[[Tensor, Tensor], Tensor]


def rand_augmented(
    batch: Tensor,
    fill: Tensor,
    magnitude: float = 9.0,
    deviation: float = 0.5,
    draws: int = 2,
    probability: float = 0.5,
) -> Tensor:
    """Images changed so many times, each time by one of `CHANGES`, or with the other probability not at all.

    Args:
        batch: of bytes, (B, 3, H, W).
        fill: colour of what a move brings in from outside, in bytes, (3, 1, 1).
        magnitude: mean of the normal distribution that strengths are drawn from, in 0..10.
        deviation: of it.
        draws: changes for every image, the same one twice included.
        probability: that a change is made.
    """
    images, size = batch.double(), len(batch)
    for _ in range(draws):
        which, made = torch.randint(len(CHANGES), (size,)), torch.rand(size) < probability
        strength = (magnitude + deviation * torch.randn(size)).clamp(0, _STRONGEST) / _STRONGEST
        sign = 1.0 - 2.0 * torch.randint(2, (size,))
        for number, change in enumerate(CHANGES.values()):
            rows = (made & (which == number)).nonzero()[:, 0]
            n = change.amount(strength[rows].double(), sign[rows]).reshape(-1, 1, 1, 1)
            rows, n = rows.to(batch.device), n.to(batch.device)
            images[rows] = change.apply(images[rows], n, fill.to(images))
    return images.to(batch.dtype)


def _auto_contrast(x: Tensor, _n: Tensor, _fill: Tensor) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scale = torch.full_like(high, 255.0) / (high - low)  # 255.0 / tensor is its reciprocal, rounded, times 255
    return torch.where(high > low, (x * scale - low * scale).clamp(0, 255).floor(), x)


def _equalize(x: Tensor, _n: Tensor, _fill: Tensor) -> Tensor:
    """y(v) = (s / 2 + pixels below v) / s, s = (pixels - those of the largest value) / 255, in whole numbers."""
    values = x.flatten(2).long()
    counts = torch.zeros(*x.shape[:2], 256, dtype=torch.long, device=x.device).scatter_add_(
        2, values, torch.ones_like(values)
    )
    last = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - last) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    found = torch.where(step > 0, table.gather(2, values), values)
    return found.reshape(x.shape).to(x)


def _solarize(x: Tensor, n: Tensor, _fill: Tensor) -> Tensor:
    return torch.where(x < n, x, 255 - x)


def _posterize(x: Tensor, n: Tensor, _fill: Tensor) -> Tensor:
    return x - x % 2 ** (8 - n)


def _grey(x: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA).reshape(3, 1, 1).to(x)
    return (((x * weights).sum(1, keepdim=True) + 0x8000) / 0x10000).floor()


def _mean(x: Tensor) -> Tensor:
    return (_grey(x).mean((1, 2, 3), keepdim=True) + 0.5).floor()


def _smooth(x: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels, where the one in the middle counts five times; the edge stays."""
    kernel = torch.ones(1, 1, 3, 3).to(x)
    kernel[..., 1, 1] = 5.0
    inner = F.conv2d(x.flatten(0, 1)[:, None], kernel / 13.0)[:, 0]
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = (inner.reshape(*x.shape[:2], *inner.shape[1:]) + 0.5).floor().clamp(0, 255)
    return smooth


def _away_from(dull: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """y = d + n (x - d), d: a dull version of x; n < 1 is towards it, n > 1 away from it."""
    return lambda x, n, _fill: (dull(x) + n * (x - dull(x))).clamp(0, 255).floor()


def _warped(x: Tensor, rows: tuple[tuple[Tensor | float, ...], ...], fill: Tensor) -> Tensor:
    """y at (u, v) is x at (a u + b v + c, d u + e v + f), from the middle of the image, between pixels bilinear."""
    height, width = x.shape[2:]
    v, u = torch.meshgrid(
        torch.arange(height).to(x) + 0.5 - height / 2, torch.arange(width).to(x) + 0.5 - width / 2, indexing="ij"
    )
    across, down = ((a * u + b * v + c).expand(len(x), 1, height, width)[:, 0] for a, b, c in rows)
    grid = torch.stack([2 * across / width, 2 * down / height], -1)
    found = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = ((grid >= -1) & (grid < 1)).all(-1)[:, None]
    return torch.where(inside, (found + 1e-9).floor(), fill)  # 1e-9: a whole number stays one


def _rotate(x: Tensor, n: Tensor, fill: Tensor) -> Tensor:
    cos, sin = torch.deg2rad(n).cos(), torch.deg2rad(n).sin()
    return _warped(x, ((cos, -sin, 0.0), (sin, cos, 0.0)), fill)


def _shear_x(x: Tensor, n: Tensor, fill: Tensor) -> Tensor:
    return _warped(x, ((1.0, n, n * x.shape[2] / 2), (0.0, 1.0, 0.0)), fill)  # about the upper left corner


def _shear_y(x: Tensor, n: Tensor, fill: Tensor) -> Tensor:
    return _warped(x, ((1.0, 0.0, 0.0), (n, 1.0, n * x.shape[3] / 2)), fill)


def _translate_x(x: Tensor, n: Tensor, fill: Tensor) -> Tensor:
    return _warped(x, ((1.0, 0.0, n * x.shape[3]), (0.0, 1.0, 0.0)), fill)


def _translate_y(x: Tensor, n: Tensor, fill: Tensor) -> Tensor:
    return _warped(x, ((1.0, 0.0, 0.0), (0.0, 1.0, n * x.shape[2])), fill)


def _factor(strength: Tensor, sign: Tensor) -> Tensor:
    return (1.0 + 0.9 * strength * sign).clamp(min=0.1)


CHANGES: dict[str, Change] = {
    "auto contrast": Change(_auto_contrast, lambda strength, _: strength),
    "equalize": Change(_equalize, lambda strength, _: strength),
    "invert": Change(lambda x, _n, _fill: 255 - x, lambda strength, _: strength),
    "rotate": Change(_rotate, lambda strength, sign: 30.0 * strength * sign),
    "posterize": Change(_posterize, lambda strength, _: 4.0 - (4.0 * strength).floor()),
    "solarize": Change(_solarize, lambda strength, _: 256.0 - (256.0 * strength).floor()),
    "solarize add": Change(
        lambda x, n, _fill: torch.where(x < 128, (x + n).clamp(max=255), x),
        lambda strength, _: (110.0 * strength).floor().clamp(max=128),
    ),
    "colour": Change(_away_from(_grey), _factor),
    "contrast": Change(_away_from(_mean), _factor),
    "brightness": Change(_away_from(torch.zeros_like), _factor),
    "sharpness": Change(_away_from(_smooth), _factor),
    "shear x": Change(_shear_x, lambda strength, sign: 0.3 * strength * sign),
    "shear y": Change(_shear_y, lambda strength, sign: 0.3 * strength * sign),
    "translate x": Change(_translate_x, lambda strength, sign: 0.45 * strength * sign),
    "translate y": Change(_translate_y, lambda strength, sign: 0.45 * strength * sign),
}
"""Name -> change; n is degrees, bits kept, a threshold, what is added, a factor, a slope or a share of a side."""
