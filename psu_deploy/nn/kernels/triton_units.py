"""Units made of leaks on a GPU: every program takes a block of neurons through all steps, its potentials in registers.

Sequences are (T, N), contiguous, and what is None is not read. `numbers` holds gain and decay of the leaks of a and b
and of the reset, height and offset of a staircase, the threshold, and p and q of the surrogate.
"""

from __future__ import annotations

import triton
import triton.language as tl

from psu_deploy.nn.kernels.triton_parts import (
    IDENTITY,
    NO_RESET,
    NO_SURROGATE,
    SIGMOID,
    STAGES,
    STAIRCASE,
    climbed,
    fired,
    sigmoid,
    slope,
    stepped,
)


@triton.jit
def spiking_unit(
    a,
    b,
    bias_a,
    bias_b,
    numbers,
    thresholds,
    spikes,
    levels,
    T,
    N,
    TWO: tl.constexpr,
    LEAK_A: tl.constexpr,
    LEAK_B: tl.constexpr,
    BIAS_A: tl.constexpr,
    BIAS_B: tl.constexpr,
    ESTIMATOR: tl.constexpr,
    SURROGATE: tl.constexpr,
    TIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """S, or the margin. TWO: b is there."""
    gain_a, decay_a, gain_b, decay_b = (
        tl.load(numbers),
        tl.load(numbers + 1),
        tl.load(numbers + 2),
        tl.load(numbers + 3),
    )
    gain, decay, height, offset = (
        tl.load(numbers + 4),
        tl.load(numbers + 5),
        tl.load(numbers + 6),
        tl.load(numbers + 7),
    )
    threshold = tl.load(numbers + 8)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    V = tl.zeros([BLOCK], a.dtype.element_ty)
    E = V
    R = V
    for t in tl.range(T, num_stages=STAGES):
        V = stepped(V, tl.load(a + place, mask=here, other=0.0), bias_a, t, gain_a, decay_a, LEAK_A, BIAS_A)
        if TWO:
            E = stepped(E, tl.load(b + place, mask=here, other=0.0), bias_b, t, gain_b, decay_b, LEAK_B, BIAS_B)
        else:
            E = V
        estimated = E
        if ESTIMATOR == SIGMOID:
            estimated = sigmoid(E)
        elif ESTIMATOR == STAIRCASE:
            estimated = climbed(E, thresholds, levels, height, offset)
        z = V - threshold
        if ESTIMATOR != NO_RESET:
            z = V - R - threshold
            R = (R + gain * estimated) * decay
        tl.store(spikes + place, z if SURROGATE == NO_SURROGATE else fired(z, TIES), mask=here)
        place += N


@triton.jit
def spiking_unit_backward(
    g,
    a,
    b,
    bias_a,
    bias_b,
    numbers,
    thresholds,
    of_a,
    slopes,
    levels,
    T,
    N,
    TWO: tl.constexpr,
    LEAK_A: tl.constexpr,
    LEAK_B: tl.constexpr,
    BIAS_A: tl.constexpr,
    BIAS_B: tl.constexpr,
    ESTIMATOR: tl.constexpr,
    SURROGATE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Once more forward, keeping slopes where the gradients will stand, and then back.

    Until its step comes back, `of_a` keeps that of the spike, and `slopes`, which is the gradient of b where b is
    there, that of the estimator; of one that is the identity, or is not there, it keeps nothing.
    """
    gain_a, decay_a, gain_b, decay_b = (
        tl.load(numbers),
        tl.load(numbers + 1),
        tl.load(numbers + 2),
        tl.load(numbers + 3),
    )
    gain, decay, height, offset = (
        tl.load(numbers + 4),
        tl.load(numbers + 5),
        tl.load(numbers + 6),
        tl.load(numbers + 7),
    )
    threshold, p, q = tl.load(numbers + 8), tl.load(numbers + 9), tl.load(numbers + 10)
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = place < N
    V = tl.zeros([BLOCK], a.dtype.element_ty)
    E = V
    R = V
    for t in tl.range(T, num_stages=STAGES):
        V = stepped(V, tl.load(a + place, mask=here, other=0.0), bias_a, t, gain_a, decay_a, LEAK_A, BIAS_A)
        if TWO:
            E = stepped(E, tl.load(b + place, mask=here, other=0.0), bias_b, t, gain_b, decay_b, LEAK_B, BIAS_B)
        else:
            E = V
        estimated = E
        if ESTIMATOR != IDENTITY and ESTIMATOR != NO_RESET:
            estimated = sigmoid(E)
            tl.store(slopes + place, estimated * (1.0 - estimated), mask=here)
        if ESTIMATOR == STAIRCASE:
            estimated = climbed(E, thresholds, levels, height, offset)
        z = V - threshold
        if ESTIMATOR != NO_RESET:
            z = V - R - threshold
            R = (R + gain * estimated) * decay
        tl.store(of_a + place, slope(z, p, q, SURROGATE), mask=here)
        place += N
    tl.debug_barrier()  # what one thread has kept, another may read
    back = tl.zeros([BLOCK], a.dtype.element_ty)
    carry_a = back
    carry_b = back
    for _ in tl.range(T, num_stages=STAGES):
        place -= N
        of_margin = tl.load(g + place, mask=here, other=0.0) * tl.load(of_a + place, mask=here, other=0.0)
        of_estimate = back
        if ESTIMATOR != IDENTITY and ESTIMATOR != NO_RESET:
            of_estimate = back * tl.load(slopes + place, mask=here, other=0.0)
        if ESTIMATOR != NO_RESET:
            back = (back - gain * of_margin) * decay
        carry_a, to_a = stepped_back(carry_a, of_margin if TWO else of_margin + of_estimate, gain_a, decay_a, LEAK_A)
        tl.store(of_a + place, to_a, mask=here)
        if TWO:
            carry_b, to_b = stepped_back(carry_b, of_estimate, gain_b, decay_b, LEAK_B)
            tl.store(slopes + place, to_b, mask=here)


@triton.jit
def stepped_back(carry, g, gain, decay, LEAKS: tl.constexpr):
    """A step of the transposed leak: what it carries on, and the gradient of its input."""
    if LEAKS:
        carry = carry * decay + gain * g
        g = carry
    return carry, g
