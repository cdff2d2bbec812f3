"""Functions that are a few simpler calls: run as these, in sight."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.capture.rules.attention import ATTENTION
from psu_deploy.capture.rules.statistics import STATISTICS
from psu_deploy.errors import Refusal


def einsum(equation: Any, *operands: Any) -> Tensor:
    """One or two tensors, every letter at most once in each."""
    if not isinstance(equation, str):
        raise Refusal("einsum without letters", "write the equation as text")
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or any(len(set(term)) != len(term) for term in (*terms, out)) or len(terms) > 2:
        raise Refusal(f"einsum {equation!r}", "one or two tensors, '->', every letter once in each")
    if len(terms) == 1:
        return _summed(tensors[0], terms[0], out)
    return _contracted(terms[0], terms[1], out, tensors[0], tensors[1])


def _summed(x: Tensor, term: str, out: str) -> Tensor:
    gone = [i for i, letter in enumerate(term) if letter not in out]
    x = x.sum(gone) if gone else x
    kept = [letter for letter in term if letter in out]
    return x.permute([kept.index(letter) for letter in out])


def _contracted(a: str, b: str, out: str, x: Tensor, y: Tensor) -> Tensor:
    x, a = _summed(x, a, "".join(c for c in a if c in b + out)), "".join(c for c in a if c in b + out)
    y, b = _summed(y, b, "".join(c for c in b if c in a + out)), "".join(c for c in b if c in a + out)
    batch = [c for c in a if c in b and c in out]
    summed = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    if not summed:
        wide = [*batch, *rows, *columns]
        x = x.permute([a.index(c) for c in (*batch, *rows)])
        y = y.permute([b.index(c) for c in (*batch, *columns)])
        y = y.reshape([sizes[c] for c in batch] + [1] * len(rows) + [sizes[c] for c in columns])
        x = x.reshape([sizes[c] for c in (*batch, *rows)] + [1] * len(columns))
        return (x * y).permute([wide.index(c) for c in out])
    n, k, m = (math.prod(sizes[c] for c in letters) for letters in (rows, summed, columns))
    lead = [sizes[c] for c in batch]
    x = x.permute([a.index(c) for c in (*batch, *rows, *summed)]).reshape([*lead, n, k])
    y = y.permute([b.index(c) for c in (*batch, *summed, *columns)]).reshape([*lead, k, m])
    product = (x @ y).reshape([sizes[c] for c in (*batch, *rows, *columns)])
    return product.permute([[*batch, *rows, *columns].index(c) for c in out])


def addmm(x: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha mat1 @ mat2."""
    return (mat1 @ mat2) * alpha + x * beta


def lerp(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    """x + weight (end - x)."""
    result: Tensor = x + (end - x) * weight
    return result


def addcmul(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """x + value tensor1 tensor2."""
    return x + tensor1 * tensor2 * value


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x / max(||x||, eps)."""
    if p != 2.0:
        raise Refusal(f"normalises by the {p}-norm", "p=2")
    size: Tensor = (x * x).sum(dim, keepdim=True).sqrt().clamp_min(eps)
    return x / size


def softmin(x: Tensor, dim: int | None = None, **kwargs: Any) -> Tensor:
    """softmax(-x)."""
    return F.softmax(-x, dim=dim)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(N, C r^2, H, W) -> (N, C, H r, W r)."""
    r = upscale_factor
    *lead, channels, height, width = x.shape
    x = x.reshape(*lead, channels // r**2, r, r, height, width)
    n = len(lead)
    return x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, channels // r**2, height * r, width * r)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """(N, C, H r, W r) -> (N, C r^2, H, W)."""
    r = downscale_factor
    *lead, channels, height, width = x.shape
    x = x.reshape(*lead, channels, height // r, r, width // r, r)
    n = len(lead)
    return x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, channels * r**2, height // r, width // r)


def repeat_interleave(x: Tensor, repeats: int, dim: int | None = None, **kwargs: Any) -> Tensor:
    """Every place of an axis several times in a row."""
    if not isinstance(repeats, int) or dim is None:
        raise Refusal("repeats places by a tensor, or without dim=", "give a number and dim=")
    places = torch.arange(x.shape[dim]).repeat_interleave(repeats)
    return x.index_select(dim, places)


DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    **ATTENTION,
    **STATISTICS,
    "einsum": einsum,
    "addmm": addmm,
    "baddbmm": addmm,
    "lerp": lerp,
    "addcmul": addcmul,
    "normalize": normalize,
    "softmin": softmin,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "repeat_interleave": repeat_interleave,
}
"""Name -> what it is made of."""
