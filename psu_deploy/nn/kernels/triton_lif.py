"""LIF and PLIF on a GPU: see `triton_units`. `numbers` holds tau, the threshold, and p and q of the surrogate."""

from __future__ import annotations

import triton
import triton.language as tl

from psu_deploy.nn.kernels.triton_parts import STAGES, divided, fired, slope


@triton.jit
def moved(x, factor, SHARES: tl.constexpr):
    """`x * (1/tau)` where 1/tau is learned, `x / tau` otherwise."""
    return x * factor if SHARES else divided(x, factor + tl.zeros_like(x))


@triton.jit
def charged(V, x, factor, SHARES: tl.constexpr, DECAYS: tl.constexpr):
    """H: `V + (x - V)/tau` or `V - V/tau + x`."""
    return V + moved(x - V, factor, SHARES) if DECAYS else V - moved(V, factor, SHARES) + x


@triton.jit
def rested(H, S, threshold, HARD: tl.constexpr):
    """V behind the spike."""
    return (1.0 - S) * H if HARD else H - threshold * S


@triton.jit
def lif(
    x,
    share,
    numbers,
    spikes,
    T,
    N,
    SHARES: tl.constexpr,
    HARD: tl.constexpr,
    DECAYS: tl.constexpr,
    TIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """S. SHARES: share is there."""
    factor, threshold = tl.load(share if SHARES else numbers), tl.load(numbers + 1)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    V = tl.zeros([BLOCK], x.dtype.element_ty)
    for _ in tl.range(T, num_stages=STAGES):
        H = charged(V, tl.load(x + place, mask=here, other=0.0), factor, SHARES, DECAYS)
        S = fired(H - threshold, TIES)
        tl.store(spikes + place, S, mask=here)
        V = rested(H, S, threshold, HARD)
        place += N


@triton.jit
def lif_backward(
    g,
    x,
    share,
    numbers,
    of_x,
    of_share,
    T,
    N,
    SHARES: tl.constexpr,
    HARD: tl.constexpr,
    DECAYS: tl.constexpr,
    DETACH: tl.constexpr,
    TIES: tl.constexpr,
    SURROGATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Once more forward, keeping V before every step where its gradient will stand, and then back.

    of_share: (programs,), float64, the sums of every program; read by nobody where there is no share.
    """
    factor, threshold = tl.load(share if SHARES else numbers), tl.load(numbers + 1)
    p, q = tl.load(numbers + 2), tl.load(numbers + 3)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    V = tl.zeros([BLOCK], x.dtype.element_ty)
    for _ in tl.range(T, num_stages=STAGES):
        tl.store(of_x + place, V, mask=here)
        H = charged(V, tl.load(x + place, mask=here, other=0.0), factor, SHARES, DECAYS)
        V = rested(H, fired(H - threshold, TIES), threshold, HARD)
        place += N
    tl.debug_barrier()  # what one thread has kept, another may read
    back = tl.zeros([BLOCK], x.dtype.element_ty)
    total = tl.zeros([BLOCK], tl.float64)
    for behind in tl.range(T, num_stages=STAGES):
        place -= N
        current = tl.load(x + place, mask=here, other=0.0)
        before = tl.load(of_x + place, mask=here, other=0.0)
        H = charged(before, current, factor, SHARES, DECAYS)
        S = fired(H - threshold, TIES)
        of_spike = tl.load(g + place, mask=here, other=0.0)
        if not DETACH:
            # The last V goes nowhere, not even where it is infinite.
            of_spike -= back * (tl.where(behind > 0, H, 0.0) if HARD else threshold)
        of_H = (back * (1.0 - S) if HARD else back) + of_spike * slope(H - threshold, p, q, SURROGATE)
        driven = moved(of_H, factor, SHARES)
        back = of_H - driven
        tl.store(of_x + place, driven if DECAYS else of_H, mask=here)
        if SHARES:
            total += (of_H * (current - before if DECAYS else -before)).to(tl.float64)
    if SHARES:
        tl.store(of_share + tl.program_id(0), tl.sum(total, 0))
