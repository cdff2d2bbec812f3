"""Functions of whole feature axes that are a few simpler calls."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from psu_deploy.errors import Refusal


def var(x: Tensor, dim: Any = None, *args: Any, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """Mean square of what the mean leaves, times n / (n - correction)."""
    if dim is None or isinstance(dim, bool):
        raise Refusal("is the variance over all axes", "give dim=, over features")
    correction = kwargs.get("correction", int(kwargs.get("unbiased", args[0] if args else True)))
    keepdim = bool(args[1]) if len(args) > 1 else keepdim
    dims = [dim] if isinstance(dim, int) else list(dim)
    count = prod(x.shape[one] for one in dims)
    off = x - x.mean(dims, keepdim=True)
    result: Tensor = (off * off).sum(dims, keepdim=keepdim) / (count - correction)
    return result


def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The root of the variance."""
    return var(x, *args, **kwargs).sqrt()


def norm(x: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, *args: Any, **kwargs: Any) -> Tensor:
    """sum(|x|), or the root of the sum of squares."""
    if dim is None or p not in ("fro", 2, 2.0, 1, 1.0) or args or kwargs.get("dtype"):
        raise Refusal(f"is the {p}-norm, or one over all axes", "p=1 or p=2 over feature axes, dim=")
    if p in (1, 1.0):
        return x.abs().sum(dim, keepdim=keepdim)
    return (x * x).sum(dim, keepdim=keepdim).sqrt()


def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:  # noqa: A002
    """As `norm`, over one axis."""
    if not isinstance(dim, int) and dim is not None and len(dim) != 1:
        raise Refusal("is a norm of matrices", "over one feature axis")
    return norm(x, 2 if ord is None else ord, dim, keepdim, **kwargs)


def logsumexp(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))), the largest taken out."""
    largest = x.amax(dim, keepdim=True)
    result = (x - largest).exp().sum(dim, keepdim=True).log() + largest
    return result if keepdim else result.squeeze(dim)


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), the two halves of an axis."""
    first, second = x.chunk(2, dim)
    return first * second.sigmoid()


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 x2 / (|x1| |x2|), both norms at least eps."""
    first, second = (x / (x * x).sum(dim, keepdim=True).sqrt().clamp_min(eps) for x in (x1, x2))
    return (first * second).sum(dim)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, **kwargs: Any) -> Tensor:
    """The last axes of one, the first of a weight."""
    if not isinstance(dims, int) or dims != 1 or b.ndim != 2:
        raise Refusal("sums over several axes", "x @ weight")
    return torch.matmul(a, b)


STATISTICS: dict[str, Callable[..., Any]] = {
    "var": var,
    "std": std,
    "norm": norm,
    "linalg_norm": vector_norm,
    "vector_norm": vector_norm,
    "linalg_vector_norm": vector_norm,
    "logsumexp": logsumexp,
    "glu": glu,
    "cosine_similarity": cosine_similarity,
    "tensordot": tensordot,
}
"""Name -> what it is made of."""
