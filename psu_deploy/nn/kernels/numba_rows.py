"""Rows of a few hundred neurons, which stay in the first cache: sigmoid, surrogates and spikes, for every kernel.

Compiled by Numba without `fastmath`: every sum and product is rounded on its own and in the order it is written, that
of the serial machine, and NaN and infinity mean what they mean in torch. All numbers are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from psu_deploy.nn.kernels.codes import ATAN, NO_SURROGATE, PIECEWISE_LINEAR
from psu_deploy.nn.kernels.compiled import instruction, row

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


@instruction
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`, rounded once."""
    return types.float32(types.float32, types.float32, types.float32), lambda _, builder, __, args: builder.fma(*args)


@instruction
def bits(typing: Any, a: Any) -> Any:
    """The 32 bits of a number, as a whole number."""
    return types.int32(types.float32), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(32))


@instruction
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
