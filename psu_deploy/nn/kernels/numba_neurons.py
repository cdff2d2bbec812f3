"""The neurons' kernels for the CPU: blocks of neurons over all steps, so that their potentials stay in the first cache.

Compiled by Numba without `fastmath`: every sum and product is rounded on its own and in the order it is written, that
of the serial machine, and NaN and infinity mean what they mean in torch. All numbers are float32.

Everything stands in this one file: Numba's cache on disk looks at the file of the function that is called, and not at
what that imports.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from psu_deploy.nn.kernels.codes import ATAN, IDENTITY, NO_SURROGATE, PIECEWISE_LINEAR, STAIRCASE
from psu_deploy.nn.kernels.compiled import kernel, row

f32 = np.float32
ZERO, HALF, ONE = f32(0.0), f32(0.5), f32(1.0)
LOG2E = f32(1.442695040888963407359924681001892137426645954152985934135449406931)
LN2_HIGH, LN2_LOW = f32(0.693145751953125), f32(1.428606765330187045e-06)
C6, C5, C4 = f32(0.000198527617612853646), f32(0.00139304355252534151), f32(0.00833336077630519867)
C3, C2 = f32(0.0416664853692054749), f32(0.1666666716337204)
ROUNDS = f32(3 << 22)
"""Added to a small number it leaves no bits behind the point, and the whole number in its own last bits."""
LARGEST, NOTHING = f32(88.722839), f32(-87.0)
"""exp is infinite from here on, and less than half a bit of 1 up to there."""


@intrinsic
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`, rounded once."""
    return types.float32(types.float32, types.float32, types.float32), lambda _, builder, __, args: builder.fma(*args)


@intrinsic
def bits(typing: Any, a: Any) -> Any:
    """The 32 bits of a number, as a whole number."""
    return types.int32(types.float32), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def number(typing: Any, a: Any) -> Any:
    """And back."""
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


@row
def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`, in every bit what torch's vectorised sigmoid gives: SLEEF's `expf`, then one division.

    Reference: Shibata and Petrogalli, IEEE TPDS 31 (2020), SLEEF, `xexpf`.
    """
    d = NOTHING if -x < NOTHING else -x
    shifted = d * LOG2E + ROUNDS
    whole = shifted - ROUNDS
    s = fused(whole, -LN2_LOW, fused(whole, -LN2_HIGH, d))
    u = fused(fused(fused(fused(C6, s, C5), s, C4), s, C3), s, C2)
    u = ONE + fused(s * s, fused(u, s, HALF), s)
    exp = number(np.int32(bits(u) + (bits(shifted) << np.int32(23))))  # u * 2**whole
    y = ZERO if d >= LARGEST else ONE / (ONE + exp)
    return x if x != x else y


@row
def fill(y: Any, value: Any) -> None:
    """A row of one number; `y[:] = value` would compile for as long as all the rest."""
    for i in range(y.size):
        y[i] = value


@row
def slope(z: Any, surrogate: int, sharpness: float) -> None:
    """dS/dz in the place of a row of margins z."""
    if surrogate == ATAN:
        height, width = f32(sharpness / 2), f32(np.pi / 2 * sharpness)
        for i in range(z.size):
            z[i] = height / (ONE + (width * z[i]) * (width * z[i]))
    elif surrogate == PIECEWISE_LINEAR:
        height, steepness = f32(sharpness), f32(sharpness**2)
        for i in range(z.size):
            d = height - steepness * abs(z[i])
            z[i] = ZERO if d < ZERO else d
    elif surrogate == NO_SURROGATE:
        fill(z, ONE)
    else:
        half, height = f32(sharpness), f32(1 / (2 * sharpness))
        for i in range(z.size):
            z[i] = height if abs(z[i]) < half else ZERO


@row
def spikes(z: Any, ties: bool) -> None:
    """S in the place of a row of margins."""
    if ties:
        for i in range(z.size):
            z[i] = ONE if z[i] >= ZERO else ZERO
    else:
        for i in range(z.size):
            z[i] = ONE if z[i] > ZERO else ZERO


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
            estimate(E, estimator, thresholds, height, offset, estimated, D[t, :n])
            decide(V, estimated, threshold, gain, decay, R, Q[t, :n])
            slope(Q[t, :n], surrogate, sharpness)
        fill(R, ZERO)
        for t in range(len(a) - 1, -1, -1):
            to_a = ga[t, start : start + n]
            to_b = gb[t, start : start + n] if b.size else estimated[:0]
            before(g[t, start : start + n], Q[t, :n], D[t, :n], gain, decay, R, to_a, to_b)
            if leak_a:
                leak_back(gain_a, decay_a, carry_a, to_a)
            if leak_b:
                leak_back(gain_b, decay_b, carry_b, to_b)


@row
def charge(x: Any, shares: bool, share: float, tau: float, decays: bool, V: Any) -> None:
    """H in the place of V, `V + (x - V)/tau` or `V - V/tau + x`; of PLIF with a factor, share, for 1/tau."""
    f, divisor = f32(share), f32(tau)
    if shares and decays:
        for i in range(V.size):
            V[i] = V[i] + (x[i] - V[i]) * f
    elif shares:
        for i in range(V.size):
            V[i] = V[i] - V[i] * f + x[i]
    elif decays:
        for i in range(V.size):
            V[i] = V[i] + (x[i] - V[i]) / divisor
    else:
        for i in range(V.size):
            V[i] = V[i] - V[i] / divisor + x[i]


@row
def fire(H: Any, threshold: float, ties: bool, S: Any) -> None:
    """S of a step."""
    th = f32(threshold)
    for i in range(S.size):
        S[i] = H[i] - th
    spikes(S, ties)


@row
def rest(S: Any, threshold: float, hard: bool, V: Any) -> None:
    """V in the place of H: what is left after a spike."""
    th = f32(threshold)
    if hard:
        for i in range(V.size):
            V[i] = (ONE - S[i]) * V[i]
    else:
        for i in range(V.size):
            V[i] = V[i] - th * S[i]


@kernel
def lif(x, shares, share, tau, threshold, hard, decays, ties, S, first, last, block):
    """Neurons first to last of a sequence (T, N)."""
    own = np.empty(block, f32)
    for start in range(first, last, block):
        V = own[: min(block, last - start)]
        fill(V, ZERO)
        for t in range(len(x)):
            to = S[t, start : start + V.size]
            charge(x[t, start : start + V.size], shares, share, tau, decays, V)
            fire(V, threshold, ties, to)
            rest(to, threshold, hard, V)


@row
def before_spike(g: Any, H: Any, S: Any, threshold: float, hard: bool, detach: bool, after: Any, slopes: Any) -> None:
    """dL/dH in the place of dS/dH; after is the gradient of V behind the spike."""
    th = f32(threshold)
    if hard and detach:
        for i in range(g.size):
            slopes[i] = after[i] * (ONE - S[i]) + g[i] * slopes[i]
    elif hard:
        for i in range(g.size):
            slopes[i] = after[i] * (ONE - S[i]) + (g[i] - after[i] * H[i]) * slopes[i]
    elif detach:
        for i in range(g.size):
            slopes[i] = after[i] + g[i] * slopes[i]
    else:
        for i in range(g.size):
            slopes[i] = after[i] + (g[i] - after[i] * th) * slopes[i]


@row
def before_charge(of_H: Any, shares: bool, share: float, tau: float, decays: bool, of_V: Any, gx: Any) -> None:
    """Gradients of V and of the input."""
    f, divisor = f32(share), f32(tau)
    for i in range(gx.size):
        gx[i] = of_H[i] * f if shares else of_H[i] / divisor
        of_V[i] = of_H[i] - gx[i]
    if not decays:
        for i in range(gx.size):
            gx[i] = of_H[i]


@row
def of_share(of_H: Any, x: Any, V: Any, decays: bool, total: Any) -> None:
    """A step of the gradient of 1/tau, neuron by neuron."""
    for i in range(total.size):
        total[i] += of_H[i] * ((x[i] if decays else ZERO) - V[i])


@kernel
def lif_backward(
    g,
    x,
    shares,
    share,
    tau,
    threshold,
    hard,
    decays,
    detach,
    ties,
    surrogate,
    sharpness,
    gx,
    totals,
    first,
    last,
    block,
):
    """Neurons first to last: once more forward, keeping V, and then back. totals is (N,), float64."""
    own, kept = np.empty((5, block), f32), np.empty((len(x), block), f32)
    for start in range(first, last, block):
        n = min(block, last - start)
        fill(own.reshape(-1), ZERO)
        V, H, S, slopes, of_V = own[0, :n], own[1, :n], own[2, :n], own[3, :n], own[4, :n]
        for t in range(len(x)):
            for i in range(n):
                kept[t, i] = V[i]
            charge(x[t, start : start + n], shares, share, tau, decays, V)
            fire(V, threshold, ties, S)
            rest(S, threshold, hard, V)
        for t in range(len(x) - 1, -1, -1):
            for i in range(n):
                H[i] = kept[t, i]
            charge(x[t, start : start + n], shares, share, tau, decays, H)
            fire(H, threshold, ties, S)
            for i in range(n):
                slopes[i] = H[i] - f32(threshold)
            slope(slopes, surrogate, sharpness)
            behind = t + 1 < len(x)  # the last V goes nowhere, not even where it is infinite
            before_spike(g[t, start : start + n], H, S, threshold, hard and behind, detach or not behind, of_V, slopes)
            before_charge(slopes, shares, share, tau, decays, of_V, gx[t, start : start + n])
            if shares:
                of_share(slopes, x[t, start : start + n], kept[t, :n], decays, totals[start : start + n])
