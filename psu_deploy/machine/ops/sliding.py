"""Windows that slide over axes: what convolutions and pools share."""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Shape

Padding = tuple[tuple[int, int], ...]


def slide(size: Shape, kernel: Shape, stride: Shape, padding: Padding, dilation: Shape) -> Shape:
    """Size of what a window of that kernel leaves, per axis. Raises `InputError` if it does not fit."""
    spans = [n + sum(p) - d * (k - 1) - 1 for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)]
    if min(spans) < 0:
        raise InputError(f"a window of {kernel} does not fit an input of {size} padded by {padding}")
    return tuple(span // s + 1 for span, s in zip(spans, stride, strict=True))


def pad(x: Tensor, padding: Padding, value: float = 0.0) -> Tensor:
    """(B, C, *axes) with `value` around its last axes."""
    flat = [n for pair in reversed(padding) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def padded_size(features: Shape, padding: Padding) -> int:
    """Numbers per sample of (C, *axes) once it is padded."""
    return features[0] * prod(n + sum(pair) for n, pair in zip(features[1:], padding, strict=True))
