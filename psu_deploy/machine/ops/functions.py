"""The pointwise functions whose slope is bounded: what they compute, and how far off they may be.

Where |f'| <= L everywhere, an error E of the input is one of L E of the output, whatever the input is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.machine.ops.roundoff import Roundoff

FUNCTION_ERROR = 8
"""Error of a function of a library in units of u, all steps of its formula together.

Of exp, log, erf, tanh, sin and cos alone libraries reach 1 to 4 (glibc and Sleef 1, CUDA 2, the rational functions of
onnxruntime 4); a formula around them, such as `x/2 (1 + erf(x / sqrt(2)))`, has up to six more roundings.
"""


class Function(NamedTuple):
    """One pointwise function.

    Args:
        value: of every entry.
        error: the bound of it, from a pair to a pair.
    """

    value: Callable[[Tensor], Tensor]
    error: Callable[[Roundoff, Tensor], Tensor]


Size = Callable[[Tensor], Tensor]
"""From |x|, or something above it, to something above |f(x)|, or above what the rounding of f is relative to."""


def bounded_slope(roundoff: Roundoff, pair: Tensor, slope: float, size: Size, rounded: Size | None = None) -> Tensor:
    """The bound of a function with |f'| <= slope.

    Args:
        roundoff: as for `Layer.error`.
        pair: magnitude and error of the input.
        slope: the largest there is.
        size: of the result.
        rounded: of what its own rounding is relative to, where that is more than the result.
    """
    magnitude, error = pair.chunk(2)
    own = size(magnitude)
    carried = torch.cat([own, slope * error])
    return roundoff.with_error(carried, FUNCTION_ERROR, own if rounded is None else rounded(magnitude))


def _of(value: Callable[[Tensor], Tensor], slope: float, size: Size, rounded: Size | None = None) -> Function:
    return Function(value, lambda roundoff, pair: bounded_slope(roundoff, pair, slope, size, rounded))


def itself(magnitude: Tensor) -> Tensor:
    """|f(x)| <= |x|."""
    return magnitude


def at_most_one(magnitude: Tensor) -> Tensor:
    """|f(x)| <= |x|, and never more than 1."""
    return magnitude.clamp(max=1.0)


def _erf_size(magnitude: Tensor) -> Tensor:
    return (2 / sqrt(pi) * magnitude).clamp(max=1.0)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


FUNCTIONS = {
    "relu": Function(torch.relu, lambda _, pair: pair),  # a cut makes an error smaller
    "sigmoid": Function(torch.sigmoid, lambda roundoff, pair: roundoff.sigmoid(pair)),
    "abs": _of(torch.abs, 1.0, itself),
    "neg": _of(torch.neg, 1.0, itself),
    "tanh": _of(torch.tanh, 1.0, at_most_one),
    "erf": _of(torch.erf, 2 / sqrt(pi), _erf_size),
    "sin": _of(torch.sin, 1.0, at_most_one),
    "cos": _of(torch.cos, 1.0, torch.ones_like),
    "gelu": _of(F.gelu, 1.13, itself),
    "gelu_tanh": _of(_gelu_tanh, 1.13, itself),
    "silu": _of(F.silu, 1.1, itself),
    "mish": _of(F.mish, 1.09, itself),
    "hardswish": _of(F.hardswish, 1.5, itself),
    "hardsigmoid": _of(F.hardsigmoid, 1 / 6, torch.ones_like),
    "softsign": _of(F.softsign, 1.0, at_most_one),
    "logsigmoid": _of(F.logsigmoid, 1.0, lambda m: m + log(2.0), lambda m: m + 1.0),
}
"""Kind of activation -> what it computes. The slopes: GELU 1.129 at sqrt(2), SiLU 1.0999 at 2.4, Mish 1.089 at 1.49."""
