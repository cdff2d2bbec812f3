"""What every kind of layer, causal operator and estimator means: numpy and torch in float64, from the equations.

Nothing here calls the package; its dataclasses are read as data. A sequence is (T, B, *features), and all steps of it
are computed at once: causal operators are their T x T matrices, convolutions are those of torch.
"""

from __future__ import annotations

from collections.abc import Callable
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


@means(ops.Conv1d, ops.Conv2d)
def _(layer, x):
    weight, bias = (None if part is None else torch.tensor(part) for part in (layer.weight, layer.bias))
    convolve = F.conv1d if weight.ndim == 3 else F.conv2d
    around = [zeros for before_after in reversed(layer.padding) for zeros in before_after]
    padded = F.pad(torch.from_numpy(np.ascontiguousarray(x)).flatten(0, 1), around)
    y = convolve(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return y.unflatten(0, x.shape[:2]).numpy()


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


@means(ops.Activation)
def _(layer, x):
    return {"relu": lambda: np.maximum(x, 0.0), "sigmoid": lambda: sigmoid(x)}[layer.kind]()


@means(ops.Add)
def _(layer, *inputs):
    return sum(inputs)


@means(ops.Multiply)
def _(layer, *inputs):
    return np.prod(inputs, axis=0)


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


@means(ops.Hold)
def _(layer, x):
    return np.repeat(x[:1], len(x), axis=0)


@means(ops.Readout)
def _(layer, x):
    total, steps = np.cumsum(x, axis=0), per_step(np.arange(1.0, len(x) + 1), x)
    return {"last": x, "sum": total, "mean": total / steps}[layer.kind]


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
