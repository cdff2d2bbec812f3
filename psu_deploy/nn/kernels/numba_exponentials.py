"""The kernels of a sum of exponentials for the CPU; see `numba_rows` for how they are written."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.nn.kernels.compiled import kernel, row
from psu_deploy.nn.kernels.numba_rows import ZERO, f32

STEPS = 32
"""Whose products are summed in float32 before they go to a sum in float64."""


@row
def forwards(x: Any, gain: Any, decay: Any, first: bool, z: Any, y: Any) -> None:
    """A step of one term, added to those before it."""
    if first:
        for i in range(y.size):
            z[i] = decay * z[i] + gain * x[i]
            y[i] = ZERO + z[i]
    else:
        for i in range(y.size):
            z[i] = decay * z[i] + gain * x[i]
            y[i] += z[i]


@kernel
def exponentials(x, gains, decays, y, first, last, block):
    """Neurons first to last of a sequence (T, N), in float32; gains and decays (r,)."""
    own = np.empty((gains.size, block), f32)
    for start in range(first, last, block):
        n = min(block, last - start)
        for m in range(gains.size):
            for i in range(n):
                own[m, i] = ZERO
        for t in range(len(x)):
            for m in range(gains.size):
                to = y[t, start : start + n]
                forwards(x[t, start : start + n], gains[m], decays[m], m == 0, own[m, :n], to)


@row
def sensitivities(g: Any, x: Any, decay: Any, u: Any, p: Any, of_gain: Any, of_decay: Any) -> None:
    """A step of u, a trace of gain 1, and of p = du/d(decay), and of what each is to the loss."""
    for i in range(g.size):
        p[i] = decay * p[i] + u[i]
        u[i] = decay * u[i] + x[i]
        of_gain[i] += g[i] * u[i]
        of_decay[i] += g[i] * p[i]


@row
def backwards(g: Any, gain: Any, decay: Any, first: bool, carry: Any, gx: Any) -> None:
    """A step back of one term, added to those before it."""
    if first:
        for i in range(gx.size):
            carry[i] = decay * carry[i] + g[i]
            gx[i] = gain * carry[i]
    else:
        for i in range(gx.size):
            carry[i] = decay * carry[i] + g[i]
            gx[i] += gain * carry[i]


@row
def folded(y: Any) -> Any:
    """The sum of a row, which is lost: halves on halves."""
    n = y.size
    while n > 1:
        half = (n + 1) // 2
        for i in range(n - half):
            y[i] += y[i + half]
        n = half
    return y[0]


@kernel
def exponentials_backward(g, x, gains, decays, gx, totals, first, last, block):
    """Neurons first to last: gradients of x, and of gains and decays block by block, (2, r, blocks) in float64."""
    T, r = len(x), gains.size
    u, p, carry = np.empty((r, block), f32), np.empty((r, block), f32), np.empty((r, block), f32)
    sums = np.empty((2, block), f32)
    for start in range(first, last, block):
        n = min(block, last - start)
        here = slice(start, start + n)
        of_gain, of_decay = sums[0, :n], sums[1, :n]
        for m in range(r):
            for i in range(n):
                u[m, i] = p[m, i] = carry[m, i] = ZERO
        for begin in range(0, T, STEPS):
            for m in range(r):
                for i in range(n):
                    of_gain[i] = of_decay[i] = ZERO
                for t in range(begin, min(begin + STEPS, T)):
                    sensitivities(g[t, here], x[t, here], decays[m], u[m, :n], p[m, :n], of_gain, of_decay)
                totals[0, m, start // block] += folded(of_gain)
                totals[1, m, start // block] += gains[m] * folded(of_decay)
        for t in range(T - 1, -1, -1):
            for m in range(r):
                backwards(g[t, here], gains[m], decays[m], m == 0, carry[m, :n], gx[t, here])
