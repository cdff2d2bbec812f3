"""How the engines of `engines.py` compute pointwise functions, softmax and normalisations: step by step, each rounded.

A function of a library is off by as many units as the engine's sigmoid is. Where libraries use one formula or another,
engines that add a bias last use the one and the others the other.
"""

from __future__ import annotations

import numpy as np

from psu_deploy.machine import ops
from tests.oracles import ACTIVATIONS

U = 2.0**-24
"""Unit roundoff of float32."""


def library(engine, function, x):
    """One call of a library."""
    with np.errstate(all="ignore"):
        return engine.rounded(function(x) * (1.0 + engine.sigmoid_off * U))


def activation(engine, layer, x):
    """Each by the formula it is written in."""
    r = engine.rounded
    match layer.kind:
        case "gelu":
            return r(r(x * 0.5) * r(1.0 + library(engine, ACTIVATIONS["erf"], r(x * r(0.5**0.5)))))
        case "gelu_tanh":
            cube = r(r(r(x * x) * x) * r(0.044715))
            return r(r(x * 0.5) * r(1.0 + library(engine, np.tanh, r(r((2 / np.pi) ** 0.5) * r(x + cube)))))
        case "silu":
            return r(x * engine.sigmoid(x)) if engine.bias_last else r(x / r(1.0 + library(engine, np.exp, -x)))
        case "mish":
            return r(x * library(engine, np.tanh, softplus(engine, x)))
        case "logsigmoid":
            return -softplus(engine, -x)
        case "softsign":
            return r(x / r(1.0 + np.abs(x)))
        case "hardsigmoid":
            return hardsigmoid(engine, x)
        case "hardswish":
            return r(x * hardsigmoid(engine, x))
        case "abs" | "neg":
            return ACTIVATIONS[layer.kind](x)
        case kind:
            return library(engine, ACTIVATIONS[kind], x)


def hardsigmoid(engine, x):
    """`(x + 3) / 6` or `x / 6 + 1 / 2`."""
    r = engine.rounded
    if engine.bias_last:
        return r(np.clip(r(x + 3.0), 0.0, 6.0) / 6.0)
    return np.clip(r(r(x * r(1 / 6)) + 0.5), 0.0, 1.0)


def softplus(engine, x):
    """`log(1 + exp(x))`, without an overflow."""
    small = library(engine, np.exp, -np.abs(x))
    return engine.rounded(np.maximum(x, 0.0) + library(engine, np.log, engine.rounded(1.0 + small)))


def leaky(engine, slope, x):
    """One or many slopes."""
    return np.where(x > 0, x, engine.rounded(engine.rounded(slope) * x))


def elu(engine, layer, x):
    """`exp(x) - 1` with the 1 taken away afterwards, or at once."""
    r, steep = engine.rounded, engine.rounded(engine.rounded(layer.rate) * np.minimum(x, 0.0))
    down = r(library(engine, np.exp, steep) - 1.0) if engine.bias_last else library(engine, np.expm1, steep)
    return r(r(layer.scale) * np.where(x > 0, x, r(r(layer.alpha) * down)))


def line_or_curve(engine, layer, x):
    """The threshold is compared with a product that is rounded."""
    r = engine.rounded
    steep = r(r(layer.beta) * x)
    return np.where(steep > r(layer.threshold), x, r(softplus(engine, steep) / r(layer.beta)))


def clamp(engine, layer, x):
    """The ends are rounded."""
    ends = [None if end is None else engine.rounded(end) for end in (layer.low, layer.high)]
    return np.clip(x, *ends)


def elementary(engine, layer, x):
    """With the 1 added or taken away, or at once."""
    r = engine.rounded
    match layer.kind:
        case "expm1" if engine.bias_last:
            return r(library(engine, np.exp, x) - 1.0)
        case "log1p" if engine.bias_last:
            return library(engine, np.log, r(x + 1.0))
        case kind:
            return library(engine, getattr(np, kind), x)


def power(engine, layer, x):
    """Products and roots, or an exponent times a logarithm."""
    r, p = engine.rounded, layer.exponent
    with np.errstate(all="ignore"):
        if p % 1 == 0 and engine.bias_last:
            y = np.ones_like(x)
            for _ in range(int(abs(p))):
                y = r(y * x)
            return y if p >= 0 else r(1.0 / y)
        if abs(p) == 0.5:
            return library(engine, np.sqrt, x) if p > 0 else r(1.0 / library(engine, np.sqrt, x))
        return library(engine, lambda x: x ** r(p), x)


def softmax(engine, layer, x):
    """Divided by the sum, or times its reciprocal."""
    r, (_, raised, total) = engine.rounded, _raised(engine, layer, x)
    return r(raised / total) if engine.bias_last else r(raised * r(1.0 / total))


def log_softmax(engine, layer, x):
    """The largest is taken away first, or added to the logarithm."""
    r, (largest, _, total) = engine.rounded, _raised(engine, layer, x)
    logarithm = library(engine, np.log, total)
    if engine.bias_last:
        return r(r(x - largest) - logarithm)
    return r(x - r(largest + logarithm))


def _raised(engine, layer, x):
    axis = layer.axis + 2
    largest = x.max(axis, keepdims=True)
    raised = library(engine, np.exp, engine.rounded(x - largest))
    total = engine.dot(np.ones(x.shape[axis]), np.moveaxis(raised, axis, -1))
    return largest, raised, np.expand_dims(total, axis)


def over_last_axes(engine, layer, x):
    """LayerNorm, RMSNorm."""
    rows = x.reshape(*x.shape[: x.ndim - len(layer.shape)], -1)
    centred = isinstance(layer, ops.LayerNorm)
    constants = [None if a is None else a.ravel() for a in (layer.weight, layer.bias if centred else None)]
    return normalised(engine, rows, layer.eps, *constants, centred=centred).reshape(x.shape)


def group_norm(engine, layer, x):
    """Numbers of a channel for each of its entries."""
    rows = x.reshape(*x.shape[:2], layer.groups, -1)
    each = [
        None if a is None else np.broadcast_to(a.reshape(-1, *[1] * (x.ndim - 3)), x.shape[2:]).reshape(rows.shape[2:])
        for a in (layer.weight, layer.bias)
    ]
    return normalised(engine, rows, layer.eps, *each).reshape(x.shape)


def normalised(engine, rows, eps, weight, bias, *, centred=True):
    """In two passes or number by number; as deviations times a factor, or as the rows times it and a shift."""
    r = engine.rounded
    weight = np.array(1.0) if weight is None else r(weight)
    bias = np.array(0.0) if bias is None else r(bias)
    mean, v = (
        (two_passes if engine.bias_last else welford)(engine, rows) if centred else (0.0, mean_of(engine, rows, 2))
    )
    factor = r(1.0 / library(engine, np.sqrt, r(v + r(eps))))
    if engine.fused and centred:
        scale = r(factor * weight)
        return r(rows * scale + r(bias - r(mean * scale)))
    return r(r(r(r(rows - mean) * factor) * weight) + bias)


def mean_of(engine, rows, power=1):
    """Of the numbers or of their squares, (..., 1)."""
    n = rows.shape[-1]
    total = engine.dot(np.ones(n), rows) if power == 1 else engine.dot(rows, rows)
    return engine.rounded(total / n)[..., None]


def mean_square(engine, rows):
    """Of the numbers as they are."""
    return 0.0, mean_of(engine, rows, 2)


def two_passes(engine, rows):
    """The mean, and then the mean square of what is left."""
    mean = mean_of(engine, rows)
    return mean, mean_of(engine, engine.rounded(rows - mean), 2)


def welford(engine, rows):
    """Number by number (Welford 1962)."""
    r, mean, m2 = engine.rounded, np.zeros(rows.shape[:-1]), np.zeros(rows.shape[:-1])
    for i in range(rows.shape[-1]):
        delta = r(rows[..., i] - mean)
        mean = r(mean + r(delta / (i + 1)))
        m2 = r(m2 + r(delta * r(rows[..., i] - mean)))
    return mean[..., None], r(m2 / rows.shape[-1])[..., None]


def _prelu(engine, layer, x):
    return leaky(engine, layer.slopes.reshape(-1, *[1] * (x.ndim - 3)), x)


COMPUTED = {
    ops.Activation: activation,
    ops.LeakyReLU: lambda engine, layer, x: leaky(engine, layer.slope, x),
    ops.PReLU: _prelu,
    ops.ELU: elu,
    ops.Softplus: line_or_curve,
    ops.Clamp: clamp,
    ops.Elementary: elementary,
    ops.Power: power,
    ops.Softmax: softmax,
    ops.LogSoftmax: log_softmax,
    ops.LayerNorm: over_last_axes,
    ops.RMSNorm: over_last_axes,
    ops.GroupNorm: group_norm,
}
"""Kind -> (engine, layer, x) -> what the engine makes of it."""
