"""Sums of exponentials on a GPU: see `triton_units`. A program has a row of neurons for every term.

TERMS are r; ROWS, a power of two, may be more, and what stands in the rows beyond is not looked at.
"""

from __future__ import annotations

import triton
import triton.language as tl

from psu_deploy.nn.kernels.triton_parts import STAGES


@triton.jit
def exponentials(x, gains, decays, y, T, N, TERMS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """y, the terms added in their order."""
    row = tl.arange(0, ROWS)[:, None]
    gain = tl.load(gains + row, mask=row < TERMS, other=0.0)
    decay = tl.load(decays + row, mask=row < TERMS, other=0.0)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    z = tl.zeros([ROWS, BLOCK], x.dtype.element_ty)
    for _ in tl.range(T, num_stages=STAGES):
        z = decay * z + gain * tl.load(x + place, mask=here, other=0.0)[None, :]
        sums = tl.zeros([BLOCK], x.dtype.element_ty)
        for m in tl.static_range(TERMS):
            sums += tl.sum(tl.where(row == m, z, 0.0), 0)
        tl.store(y + place, sums, mask=here)
        place += N


@triton.jit
def exponentials_backward(
    g, x, gains, decays, of_x, totals, T, N, TERMS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Gradient of x; totals, (programs, 2, r), float64: of gains, and of decays where gains are 1, of every program."""
    row = tl.arange(0, ROWS)[:, None]
    gain = tl.load(gains + row, mask=row < TERMS, other=0.0)
    decay = tl.load(decays + row, mask=row < TERMS, other=0.0)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    u = tl.zeros([ROWS, BLOCK], x.dtype.element_ty)  # a trace of gain 1
    p = u  # du/d(decay)
    of_gain = tl.zeros([ROWS, BLOCK], tl.float64)
    of_decay = of_gain
    for _ in tl.range(T, num_stages=STAGES):
        current, of_y = tl.load(x + place, mask=here, other=0.0), tl.load(g + place, mask=here, other=0.0)
        p = decay * p + u
        u = decay * u + current[None, :]
        of_gain += (of_y[None, :] * u).to(tl.float64)
        of_decay += (of_y[None, :] * p).to(tl.float64)
        place += N
    to = totals + tl.program_id(0).to(tl.int64) * 2 * TERMS + tl.arange(0, ROWS)
    tl.store(to, tl.sum(of_gain, 1), mask=tl.arange(0, ROWS) < TERMS)
    tl.store(to + TERMS, tl.sum(of_decay, 1), mask=tl.arange(0, ROWS) < TERMS)
    carry = tl.zeros([ROWS, BLOCK], x.dtype.element_ty)
    for _ in tl.range(T, num_stages=STAGES):
        place -= N
        carry = decay * carry + tl.load(g + place, mask=here, other=0.0)[None, :]
        tl.store(of_x + place, tl.sum(tl.where(row < TERMS, gain * carry, 0.0), 0), mask=here)
