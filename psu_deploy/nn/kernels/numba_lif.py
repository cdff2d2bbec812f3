"""The kernels of LIF and PLIF for the CPU: blocks of neurons over all steps. See `numba_rows`."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.nn.kernels.compiled import kernel, row
from psu_deploy.nn.kernels.numba_rows import ONE, ZERO, f32, fill, slope, spikes


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


@row
def behind_spike(kept: Any, t: int, threshold: float, hard: bool, ties: bool, S: Any, V: Any) -> None:
    """V[t], from H that was kept; S is lost. Before the first step it is zero."""
    fill(V, ZERO)
    if t >= 0:
        for i in range(V.size):
            V[i] = kept[t, i]
        fire(V, threshold, ties, S)
        rest(S, threshold, hard, V)


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
    """Neurons first to last: once more forward, keeping H, and then back. totals is (N,), float64."""
    own, kept = np.empty((4, block), f32), np.empty((len(x), block), f32)
    for start in range(first, last, block):
        n = min(block, last - start)
        fill(own.reshape(-1), ZERO)
        V, S, slopes, of_V = own[0, :n], own[1, :n], own[2, :n], own[3, :n]
        for t in range(len(x)):
            charge(x[t, start : start + n], shares, share, tau, decays, V)
            for i in range(n):
                kept[t, i] = V[i]
            fire(V, threshold, ties, S)
            rest(S, threshold, hard, V)
        for t in range(len(x) - 1, -1, -1):
            H = kept[t, :n]
            fire(H, threshold, ties, S)
            for i in range(n):
                slopes[i] = H[i] - f32(threshold)
            slope(slopes, surrogate, sharpness)
            behind = t + 1 < len(x)  # the last V goes nowhere, not even where it is infinite
            before_spike(g[t, start : start + n], H, S, threshold, hard and behind, detach or not behind, of_V, slopes)
            before_charge(slopes, shares, share, tau, decays, of_V, gx[t, start : start + n])
            if shares:
                behind_spike(kept, t - 1, threshold, hard, ties, S, V)
                of_share(slopes, x[t, start : start + n], V, decays, totals[start : start + n])
