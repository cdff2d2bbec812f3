"""What every kind of layer, causal operator and estimator means: numpy and torch in float64, from the equations.

Nothing here calls the package; its dataclasses are read as data. A sequence is (T, B, *features), and all steps of it
are computed at once: causal operators are their T x T matrices, convolutions are those of torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view

from psu_deploy.machine import ops
from tests.helpers import Array, RawLIF, apply, decide, leak_matrix, noise, per_step, sigmoid, strict_leak_matrix

ORACLES: dict[type, Callable[..., Any]] = {}
"""Kind -> layer: (layer, *inputs) -> output; operator: (operator, T) -> A, b; estimator: (estimator, E) -> S'."""


def means(*kinds: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What follows is the meaning of these kinds."""

    def register(oracle: Callable[..., Any]) -> Callable[..., Any]:
        ORACLES.update(dict.fromkeys(kinds, oracle))
        return oracle

    return register


def output_of(layer: ops.Layer, *inputs: Array) -> Array:
    """The output of a layer at every step."""
    return ORACLES[type(layer)](layer, *inputs)


def matrix_of(operator: ops.CausalOperator, T: int) -> tuple[Array, Array]:
    """A (T, T) and b (T,) of an operator: y = A x + b along time."""
    A, b = ORACLES[type(operator)](operator, T)
    return A, np.broadcast_to(np.asarray(b, np.float64), T)


def filtered(operator: ops.CausalOperator, x: Array) -> Array:
    """A causal operator along a sequence."""
    A, b = matrix_of(operator, len(x))
    return apply(A, x) + per_step(b, x)


def estimated(estimator: ops.Estimator, E: Array) -> Array:
    """S' of E."""
    return ORACLES[type(estimator)](estimator, E)


def run(machine: Any, x: Array) -> dict[str, Array]:
    """Every layer's value at every step, name -> (T, B, *features): zero until its first input arrives."""
    values, late = {"x": x}, {"x": 0}
    for node in machine.nodes:
        start = max(late[name] for name in node.inputs)
        found = output_of(node.layer, *(values[name][start:] for name in node.inputs))
        values[node.name] = np.concatenate([np.zeros((start, *found.shape[1:])), found])
        late[node.name] = start + looks_ahead(node.layer)
    return values


def looks_ahead(layer: ops.Layer) -> int:
    """Steps between an input and the output that belongs to it."""
    return layer.steps if isinstance(layer, ops.Wait) else getattr(layer, "lookahead", 0)


# -- causal operators: A[i, j], what the input of step j adds to the output of step i --------------------------------


@means(ops.Identity)
def _(operator, T):
    return np.eye(T), 0.0


@means(ops.Leak)
def _(operator, T):
    return leak_matrix(T, operator.gain, operator.decay), 0.0


@means(ops.StrictLeak)
def _(operator, T):
    return strict_leak_matrix(T, operator.gain, operator.decay), 0.0


@means(ops.Exponentials)
def _(operator, T):
    leaks = [leak_matrix(T, gain, decay) for gain, decay in zip(operator.gains, operator.decays, strict=True)]
    return np.sum(leaks, axis=0), operator.bias


@means(ops.PartialSums)
def _(operator, T):
    return operator.matrix[:T, :T], operator.bias[:T]


@means(ops.Window)
def _(operator, T):
    A, (_, order) = np.zeros((T, T)), operator.columns.shape
    for t, lag in np.ndindex(T, order):
        if t + lag < T:
            A[t + lag, t] = operator.columns[0 if operator.time_invariant else t, lag]
    return A, operator.bias[0] if operator.time_invariant else operator.bias[:T]


# -- estimators ---------------------------------------------------------------------------------------------------


@means(ops.Sigmoid)
def _(estimator, E):
    return sigmoid(E)


@means(ops.RawCurrent)
def _(estimator, E):
    return E


@means(ops.Staircase)
def _(estimator, E):
    return estimator.offset + estimator.height * sum((level <= E).astype(float) for level in estimator.thresholds)


@means(ops.SigmoidTable)
def _(estimator, E):
    """64 straight pieces between whole numbers, at E = floor(1024 E) / 1024 in -8 .. 8."""
    knots = np.rint(4096 * sigmoid(np.arange(-32, 33) / 4))
    place = (np.clip(np.floor(E * 1024), -8192, 8191) + 8192).astype(int)
    piece, part = place // 256, place % 256
    return (knots[piece] + np.floor((knots[piece + 1] - knots[piece]) * part / 256)) / 4096


# -- layers -------------------------------------------------------------------------------------------------------


@means(ops.Linear)
def _(layer, x):
    return x @ layer.weight.T + (0.0 if layer.bias is None else layer.bias)


@means(ops.ChannelAffine)
def _(layer, x):
    channels = (-1, *[1] * (x.ndim - 3))
    return x * layer.scale.reshape(channels) + layer.shift.reshape(channels)


@means(ops.Conv1d, ops.Conv2d, ops.Conv3d)
def _(layer, x):
    weight, bias = (None if part is None else torch.tensor(part) for part in (layer.weight, layer.bias))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
    around = [zeros for before_after in reversed(layer.padding) for zeros in before_after]
    padded = F.pad(torch.from_numpy(np.ascontiguousarray(x)).flatten(0, 1), around)
    y = convolve(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return y.unflatten(0, x.shape[:2]).numpy()


@means(ops.ConvTranspose1d, ops.ConvTranspose2d)
def _(layer, x):
    """Every input, times the kernel, is added where it belongs; what is padded is cut off."""
    inputs, per_group, *kernel = layer.weight.shape
    grid = list(zip(x.shape[3:], kernel, layer.stride, layer.dilation, layer.output_padding, strict=True))
    whole = [(n - 1) * s + d * (k - 1) + 1 + extra for n, k, s, d, extra in grid]
    y = np.zeros((*x.shape[:2], per_group * layer.groups, *whole))
    for channel, out in np.ndindex(inputs, per_group):
        for place in np.ndindex(*kernel):
            where = (slice(d * j, d * j + s * (n - 1) + 1, s) for j, (n, _, s, d, _) in zip(place, grid, strict=True))
            group = channel // (inputs // layer.groups)
            y[:, :, group * per_group + out, *where] += layer.weight[channel, out, *place] * x[:, :, channel]
    inside = (slice(before, n - after) for n, (before, after) in zip(whole, layer.padding, strict=True))
    bias = np.zeros(y.shape[2]) if layer.bias is None else layer.bias
    return y[:, :, :, *inside] + bias.reshape(-1, *[1] * len(kernel))


@means(ops.SumPool)
def _(layer, x):
    return _windows(layer, x).sum(-1)


@means(ops.AvgPool)
def _(layer, x):
    real = np.ones_like(_windows(layer, x)) if layer.count_padding else _windows(layer, np.ones_like(x))
    return _windows(layer, x).sum(-1) / real.sum(-1)


@means(ops.MaxPool)
def _(layer, x):
    return _windows(layer, x, -np.inf).max(-1)


@means(ops.LPPool)
def _(layer, x):
    return (_windows(layer, x) ** layer.norm).sum(-1) ** (1 / layer.norm)


def _windows(layer, x, around=0.0):
    """(T, B, C, *size) -> (T, B, C, *new size, entries of a window)."""
    axes = tuple(range(3, x.ndim))
    x = np.pad(x, ((0, 0),) * 3 + tuple(layer.padding), constant_values=around)
    seen = sliding_window_view(x, layer.kernel, axes)
    seen = seen[(slice(None),) * 3 + tuple(slice(None, None, stride) for stride in layer.stride)]
    return seen.reshape(*seen.shape[: x.ndim], -1)


@means(ops.Flatten)
def _(layer, x):
    return x.reshape(*x.shape[:2], -1)


_GAUSS = np.vectorize(math.erf)


def _softplus(x):
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": sigmoid,
    "abs": np.abs,
    "neg": np.negative,
    "tanh": np.tanh,
    "erf": _GAUSS,
    "sin": np.sin,
    "cos": np.cos,
    "gelu": lambda x: x * (1 + _GAUSS(x / 2**0.5)) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "logsigmoid": lambda x: -_softplus(-x),
}


@means(ops.Activation)
def _(layer, x):
    return ACTIVATIONS[layer.kind](x)


@means(ops.LeakyReLU)
def _(layer, x):
    return np.where(x > 0, x, layer.slope * x)


@means(ops.PReLU)
def _(layer, x):
    return np.where(x > 0, x, layer.slopes.reshape(-1, *[1] * (x.ndim - 3)) * x)


@means(ops.ELU)
def _(layer, x):
    return layer.scale * np.where(x > 0, x, layer.alpha * np.expm1(layer.rate * np.minimum(x, 0.0)))


@means(ops.Softplus)
def _(layer, x):
    return np.where(layer.beta * x > layer.threshold, x, _softplus(layer.beta * x) / layer.beta)


@means(ops.Clamp)
def _(layer, x):
    return np.clip(x, layer.low, layer.high)


@means(ops.Elementary)
def _(layer, x):
    return {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p}[layer.kind](x)


@means(ops.Power)
def _(layer, x):
    return x**layer.exponent


@means(ops.Softmax)
def _(layer, x):
    raised = np.exp(x - x.max())
    return raised / raised.sum(layer.axis + 2, keepdims=True)


@means(ops.LogSoftmax)
def _(layer, x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum(layer.axis + 2, keepdims=True))


@means(ops.LayerNorm)
def _(layer, x):
    axes = tuple(range(-len(layer.shape), 0))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + layer.eps)
    return y * _or(layer.weight, 1.0) + _or(layer.bias, 0.0)


@means(ops.RMSNorm)
def _(layer, x):
    axes = tuple(range(-len(layer.shape), 0))
    return x / np.sqrt((x**2).mean(axes, keepdims=True) + layer.eps) * _or(layer.weight, 1.0)


@means(ops.GroupNorm)
def _(layer, x):
    rows = x.reshape(*x.shape[:2], layer.groups, -1)
    y = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + layer.eps)
    ones = (-1, *[1] * (x.ndim - 3))
    return y.reshape(x.shape) * _or(layer.weight, 1.0).reshape(ones) + _or(layer.bias, 0.0).reshape(ones)


def _or(array, otherwise):
    return np.array(otherwise) if array is None else array


@means(ops.Reshape)
def _(layer, x):
    return x.reshape(*x.shape[:2], *layer.shape)


@means(ops.Permute)
def _(layer, x):
    return np.transpose(x, (0, 1, *(2 + axis for axis in layer.axes)))


@means(ops.Take)
def _(layer, x):
    return np.take(x, layer.indices, axis=2 + layer.axis)


@means(ops.Concat)
def _(layer, *inputs):
    return np.concatenate(inputs, axis=2 + layer.axis)


@means(ops.Outputs)
def _(layer, *inputs):
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in inputs], axis=2)


@means(ops.Expand)
def _(layer, x):
    return np.broadcast_to(lined_up(x, len(layer.shape)), (*x.shape[:2], *layer.shape))


@means(ops.ConstantPad)
def _(layer, x):
    return np.pad(x, ((0, 0), (0, 0), *layer.padding), constant_values=layer.value)


@means(ops.Reduce)
def _(layer, x):
    axes = tuple(2 + axis for axis in layer.axes)
    return getattr(np, layer.kind)(x, axis=axes, keepdims=layer.keepdims)


@means(ops.TopK)
def _(layer, x):
    rising = np.sort(x, axis=2 + layer.axis)
    return np.take(np.flip(rising, 2 + layer.axis) if layer.largest else rising, range(layer.count), 2 + layer.axis)


@means(ops.ArgTopK)
def _(layer, x):
    order = np.argsort(-x if layer.largest else x, axis=2 + layer.axis, kind="stable")
    return np.take(order, range(layer.count), 2 + layer.axis).astype(float)


@means(ops.ArgMax)
def _(layer, x):
    return np.argmax(x, axis=2 + layer.axis, keepdims=layer.keepdims).astype(float)


def lined_up(x, axes):
    """(T, B, *features) with so many feature axes, ones in front of those there are."""
    return x.reshape(*x.shape[:2], *[1] * (axes - (x.ndim - 2)), *x.shape[2:])


def _all_lined_up(inputs):
    return [lined_up(x, max(x.ndim for x in inputs) - 2) for x in inputs]


@means(ops.Add)
def _(layer, *inputs):
    return sum(_all_lined_up(inputs))


@means(ops.Multiply)
def _(layer, *inputs):
    return reduce(np.multiply, _all_lined_up(inputs))


@means(ops.Subtract)
def _(layer, *inputs):
    return np.subtract(*_all_lined_up(inputs))


@means(ops.Divide)
def _(layer, *inputs):
    return np.divide(*_all_lined_up(inputs))


@means(ops.MatMul)
def _(layer, *inputs):
    return np.einsum("...ik,...kj->...ij", *_all_lined_up(inputs))


@means(ops.Affine)
def _(layer, x):
    return lined_up(x, max(x.ndim - 2, layer.scale.ndim, layer.shift.ndim)) * layer.scale + layer.shift


@means(ops.Project)
def _(layer, x):
    return np.moveaxis(np.tensordot(x, layer.matrix, (2 + layer.axis, 1)), -1, 2 + layer.axis)


@means(ops.Delay, ops.Wait)
def _(layer, x):
    return np.concatenate([np.zeros((layer.steps, *x.shape[1:])), x])[: len(x)]


@means(ops.TimeConv)
def _(layer, x):
    """Zero until the first step it belongs to is known."""
    weight, bias = (None if part is None else torch.tensor(part) for part in (layer.weight, layer.bias))
    padded = F.pad(torch.tensor(x).permute(1, 2, 0), (weight.shape[2] - 1, 0))
    y = F.conv1d(padded, weight, bias, groups=layer.groups).permute(2, 0, 1).numpy()
    y[: layer.lookahead] = 0.0
    return y


@means(ops.Filter)
def _(layer, x):
    return filtered(layer.operator, x)


@means(ops.HandOver)
def _(layer, x, U):
    """From what was, step by step."""
    p, q, steps = np.zeros_like(x[0]), np.zeros_like(x[0]), []
    for t in range(len(x)):
        q = x[t] + layer.decay * 2 * np.sin(layer.theta * p * np.cos(layer.theta * q))
        p = U[t]
        steps.append(q)
    return np.stack(steps)


@means(ops.Hold)
def _(layer, x):
    return np.repeat(x[:1], len(x), axis=0)


@means(ops.Readout)
def _(layer, x):
    total, steps = np.cumsum(x, axis=0), per_step(np.arange(1.0, len(x) + 1), x)
    best = {"max": np.maximum.accumulate(x), "min": np.minimum.accumulate(x)}
    return {"last": x, "sum": total, "mean": total / steps, **best}[layer.kind]


@means(ops.MeanOfLast)
def _(layer, x):
    return np.stack([x[max(0, t + 1 - layer.steps) : t + 1].mean(0) for t in range(len(x))])


@means(ops.SpikingNeuron)
def _(layer, x):
    V, R = filtered(layer.integrate, x), 0.0
    if layer.reset is not None:
        E = V if layer.estimate is None else filtered(layer.estimate, x)
        R = filtered(layer.reset, estimated(layer.estimator, E))
    return decide(V - R - layer.threshold, layer.fire_on)


@means(ops.LIFNeuron)
def _(layer, x):
    tau = np.inf if layer.tau is None else layer.tau
    return RawLIF(tau, layer.threshold, layer.reset, layer.decay_input, layer.fire_on)(x)[2]


@means(ops.BernoulliNeuron)
def _(layer, x):
    return decide(sigmoid(filtered(layer.integrate, x)) - noise(layer.seed, x.shape), ">")
