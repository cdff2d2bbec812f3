"""The kernels of units made of leaks, for the CPU: blocks of neurons over all steps. See `numba_rows`."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.nn.kernels.codes import IDENTITY, NO_RESET, NO_SURROGATE, STAIRCASE
from psu_deploy.nn.kernels.compiled import kernel, row
from psu_deploy.nn.kernels.numba_rows import ONE, ZERO, f32, fill, sigmoid, slope, spikes


@row
def potential(x: Any, bias: Any, t: int, leaks: bool, gain: float, decay: float, y: Any) -> None:
    """A step of V or E: `y = decay*y + gain*x`, or x, with a bias where there is one."""
    if leaks:
        g, d = f32(gain), f32(decay)
        for i in range(y.size):
            y[i] = y[i] * d + g * x[i]
    elif bias.size:
        for i in range(y.size):
            y[i] = x[i] + bias[t]
    else:
        for i in range(y.size):
            y[i] = x[i]


@row
def estimate(E: Any, estimator: int, thresholds: Any, height: float, offset: float, estimated: Any, D: Any) -> None:
    """A row of estimated spikes, and their slopes D; of a staircase only if D is not empty."""
    if estimator == IDENTITY:
        for i in range(E.size):
            estimated[i] = E[i]
            D[i] = ONE
        return
    for i in range(D.size):
        s = sigmoid(E[i])
        estimated[i] = s
        D[i] = s * (ONE - s)
    if estimator == STAIRCASE:
        fill(estimated, ZERO)
        for k in range(thresholds.size):
            for i in range(E.size):
                estimated[i] += ZERO if thresholds[k] > E[i] else ONE  # NaN is above all steps, as in bucketize
        h, o = f32(height), f32(offset)
        for i in range(E.size):
            estimated[i] = estimated[i] * h + o


@row
def decide(V: Any, estimated: Any, threshold: float, gain: float, decay: float, R: Any, z: Any) -> None:
    """The margin `z = V - R - V_th`, and a step of the reset, `R = decay*(R + gain*estimated)`."""
    th, g, d = f32(threshold), f32(gain), f32(decay)
    for i in range(z.size):
        z[i] = V[i] - R[i] - th
        R[i] = (R[i] + g * estimated[i]) * d


@row
def decide_alone(V: Any, threshold: float, z: Any) -> None:
    """The margin of a unit that has no reset, `z = V - V_th`."""
    th = f32(threshold)
    for i in range(z.size):
        z[i] = V[i] - th


@kernel
def spiking_unit(
    a,
    b,
    bias_a,
    bias_b,
    leak_a,
    gain_a,
    decay_a,
    leak_b,
    gain_b,
    decay_b,
    gain,
    decay,
    estimator,
    thresholds,
    height,
    offset,
    threshold,
    ties,
    surrogate,
    S,
    first,
    last,
    block,
):
    """Neurons first to last of a sequence (T, N): S, or the margin."""
    own = np.empty((5, block), f32)
    none = own[0, :0]
    for start in range(first, last, block):
        n = min(block, last - start)
        fill(own.reshape(-1), ZERO)
        V, E, R, estimated, D = own[0, :n], own[1, :n], own[2, :n], own[3, :n], own[4, :n]
        E = E if b.size else V
        D = none if estimator == STAIRCASE else D
        for t in range(len(a)):
            z = S[t, start : start + n]
            potential(a[t, start : start + n], bias_a, t, leak_a, gain_a, decay_a, V)
            if b.size:
                potential(b[t, start : start + n], bias_b, t, leak_b, gain_b, decay_b, E)
            if estimator == NO_RESET:
                decide_alone(V, threshold, z)
            else:
                estimate(E, estimator, thresholds, height, offset, estimated, D)
                decide(V, estimated, threshold, gain, decay, R, z)
            if surrogate != NO_SURROGATE:
                spikes(z, ties)


@row
def before(g: Any, Q: Any, D: Any, gain: float, decay: float, R: Any, ga: Any, gb: Any) -> None:
    """A step back: gradients of V and E, one and the same where gb is empty. R carries that of the reset."""
    gain_, d = f32(gain), f32(decay)
    if gb.size:
        for i in range(g.size):
            ga[i] = g[i] * Q[i]
            gb[i] = R[i] * D[i]
            R[i] = (R[i] - gain_ * ga[i]) * d
    else:
        for i in range(g.size):
            gm = g[i] * Q[i]
            ga[i] = gm + R[i] * D[i]
            R[i] = (R[i] - gain_ * gm) * d


@row
def before_alone(g: Any, Q: Any, ga: Any) -> None:
    """The gradient of V where there is no reset."""
    for i in range(g.size):
        ga[i] = g[i] * Q[i]


@row
def leak_back(gain: float, decay: float, carry: Any, g: Any) -> None:
    """A step of the transposed leak, in place."""
    gain_, d = f32(gain), f32(decay)
    for i in range(g.size):
        carry[i] = carry[i] * d + gain_ * g[i]
        g[i] = carry[i]


@kernel
def spiking_unit_backward(
    g,
    a,
    b,
    bias_a,
    bias_b,
    leak_a,
    gain_a,
    decay_a,
    leak_b,
    gain_b,
    decay_b,
    gain,
    decay,
    estimator,
    thresholds,
    height,
    offset,
    threshold,
    surrogate,
    sharpness,
    ga,
    gb,
    first,
    last,
    block,
):
    """Neurons first to last: once more forward, keeping slopes, and then back."""
    own = np.empty((6, block), f32)
    Q, D = np.empty((len(a), block), f32), np.empty((len(a), block), f32)
    for start in range(first, last, block):
        n = min(block, last - start)
        fill(own.reshape(-1), ZERO)
        V, E, R, estimated, carry_a, carry_b = own[0, :n], own[1, :n], own[2, :n], own[3, :n], own[4, :n], own[5, :n]
        E = E if b.size else V
        for t in range(len(a)):
            potential(a[t, start : start + n], bias_a, t, leak_a, gain_a, decay_a, V)
            if b.size:
                potential(b[t, start : start + n], bias_b, t, leak_b, gain_b, decay_b, E)
            if estimator == NO_RESET:
                decide_alone(V, threshold, Q[t, :n])
            else:
                estimate(E, estimator, thresholds, height, offset, estimated, D[t, :n])
                decide(V, estimated, threshold, gain, decay, R, Q[t, :n])
            slope(Q[t, :n], surrogate, sharpness)
        fill(R, ZERO)
        for t in range(len(a) - 1, -1, -1):
            to_a = ga[t, start : start + n]
            to_b = gb[t, start : start + n] if b.size else estimated[:0]
            if estimator == NO_RESET:
                before_alone(g[t, start : start + n], Q[t, :n], to_a)
            else:
                before(g[t, start : start + n], Q[t, :n], D[t, :n], gain, decay, R, to_a, to_b)
            if leak_a:
                leak_back(gain_a, decay_a, carry_a, to_a)
            if leak_b:
                leak_back(gain_b, decay_b, carry_b, to_b)
