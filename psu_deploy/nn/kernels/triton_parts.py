"""What the kernels for a GPU share: the sigmoid, the surrogates, one step of a potential.

Every product and every sum is rounded on its own, in the order of the serial machine: launched with
`enable_fp_fusion=False`, and with divisions that round to nearest, where Triton's own `/` approximates in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from psu_deploy.nn.kernels import codes

SIGMOID, STAIRCASE = tl.constexpr(codes.SIGMOID), tl.constexpr(codes.STAIRCASE)
IDENTITY, NO_RESET = tl.constexpr(codes.IDENTITY), tl.constexpr(codes.NO_RESET)
ATAN, PIECEWISE_LINEAR = tl.constexpr(codes.ATAN), tl.constexpr(codes.PIECEWISE_LINEAR)
NO_SURROGATE = tl.constexpr(codes.NO_SURROGATE)

STAGES = tl.constexpr(8)
"""How many steps are on their way from memory at once: a thread would wait for each, and there are few threads."""

LOG2E = tl.constexpr(1.442695040888963407359924681001892137426645954152985934135449406931)
LN2_HIGH, LN2_LOW = tl.constexpr(0.693145751953125), tl.constexpr(1.428606765330187045e-06)
C6, C5, C4 = (
    tl.constexpr(0.000198527617612853646),
    tl.constexpr(0.00139304355252534151),
    tl.constexpr(0.00833336077630519867),
)
C3, C2 = tl.constexpr(0.0416664853692054749), tl.constexpr(0.1666666716337204)
ROUNDS = tl.constexpr(12582912.0)
"""1.5 * 2**23: added to a small number nothing is left behind the point, and the whole number is its last bits."""
LARGEST, NOTHING = tl.constexpr(88.722839), tl.constexpr(-87.0)
"""exp is infinite from here on, and less than half a bit of 1 up to there."""


@triton.jit
def divided(x, y):
    """`x / y`, to nearest."""
    return tl.math.div_rn(x, y) if x.dtype == tl.float32 else x / y


@triton.jit
def exp_of(d):
    """`exp(d)` in float32, for -87 <= d < 88.72, within one unit in the last place.

    Reference: Shibata and Petrogalli, IEEE TPDS 31 (2020), SLEEF, `xexpf`.
    """
    shifted = d * LOG2E + ROUNDS
    whole = shifted - ROUNDS
    s = tl.fma(whole, tl.full(d.shape, -LN2_HIGH, tl.float32), d)
    s = tl.fma(whole, tl.full(d.shape, -LN2_LOW, tl.float32), s)
    u = tl.fma(tl.full(d.shape, C6, tl.float32), s, tl.full(d.shape, C5, tl.float32))
    u = tl.fma(u, s, tl.full(d.shape, C4, tl.float32))
    u = tl.fma(u, s, tl.full(d.shape, C3, tl.float32))
    u = tl.fma(u, s, tl.full(d.shape, C2, tl.float32))
    u = tl.fma(u, s, tl.full(d.shape, 0.5, tl.float32))
    u = 1.0 + tl.fma(s * s, u, s)
    bits = u.to(tl.int32, bitcast=True) + (shifted.to(tl.int32, bitcast=True) << 23)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def sigmoid(x):
    """`1 / (1 + exp(-x))`; in float32 every bit is that of torch's vectorised sigmoid on a CPU, off by 4 u at most."""
    if x.dtype == tl.float32:
        d = tl.where(-x < NOTHING, NOTHING, -x)
        y = tl.where(d >= LARGEST, 0.0, tl.math.div_rn(tl.full(x.shape, 1.0, tl.float32), 1.0 + exp_of(d)))
        y = tl.where(x != x, x, y)
    else:
        y = 1.0 / (1.0 + tl.exp(-x))
    return y


@triton.jit
def slope(z, p, q, SURROGATE: tl.constexpr):
    """dS/dz at a margin z; p and q are what `cuda.surrogate_numbers` makes of the sharpness."""
    if SURROGATE == ATAN:
        d = divided(p + tl.zeros_like(z), 1.0 + (q * z) * (q * z))
    elif SURROGATE == PIECEWISE_LINEAR:
        d = p - q * tl.abs(z)
        d = tl.where(d < 0.0, 0.0, d)
    elif SURROGATE == NO_SURROGATE:
        d = tl.full(z.shape, 1.0, z.dtype)
    else:
        d = tl.where(tl.abs(z) < q, p, 0.0)
    return d


@triton.jit
def fired(z, TIES: tl.constexpr):
    """S of a margin."""
    return (z >= 0.0 if TIES else z > 0.0).to(z.dtype)


@triton.jit
def stepped(y, x, bias, t, gain, decay, LEAKS: tl.constexpr, BIASED: tl.constexpr):
    """A step of V or E: `decay*y + gain*x`, or x, with a bias where there is one."""
    if LEAKS:
        y = y * decay + gain * x
    elif BIASED:
        y = x + tl.load(bias + t)
    else:
        y = x
    return y


@triton.jit
def climbed(E, thresholds, count, height, offset):
    """`offset + height * #{k : E >= thresholds[k]}`; NaN is above all steps, as in `torch.bucketize`."""
    steps = tl.zeros_like(E)
    for k in range(count):
        steps += tl.where(tl.load(thresholds + k) > E, 0.0, 1.0)
    return steps * height + offset
