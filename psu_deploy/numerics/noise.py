"""Noise that is a function of where it is used: the same in torch, in the state machine and in an exported graph.

A counter-based generator: index of the neuron in the batch, step and seed are mixed by rounds of `h -> (h + key)**5`
modulo the prime P = 2**31 - 1. The fifth power is a permutation there (5 does not divide P - 1), and every product fits
into a signed 64 bit integer, so any engine with integers can repeat it.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

PRIME = 2**31 - 1

SALTS = (0x3C6EF372, 0x1B873593, 0x27D4EB2F)
"""Keys of the rounds that take neither step nor seed; any three numbers below P would do."""

BITS_DROPPED = 7
"""Of 31: the 24 that are left are exact in float32, so no number is rounded up to 1."""

SCALE = 2.0**-24
"""Makes a number in [0, 1) of one of 24 bits."""


def uniform(seed: int | Tensor, step: int, batch: int, features: tuple[int, ...], *, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), one per neuron.

    Args:
        seed: >= 0; a whole number or a tensor () of one, which need not be read then.
        step: >= 0.
        batch: B.
        features: of one sample; the number of a neuron in a sample does not depend on B.
        like: gives dtype and device.

    Returns:
        (B, *features).
    """
    mixed = torch.arange(batch * prod(features), device=like.device) % PRIME
    for key in keys(seed, step):
        mixed = _fifth_power((mixed + key) % PRIME)
    return ((mixed >> BITS_DROPPED).to(like.dtype) * SCALE).view(batch, *features)


def keys(seed: int | Tensor, step: int) -> tuple[int | Tensor, ...]:
    """Keys of the rounds, in order."""
    return (SALTS[0], step % PRIME, SALTS[1], seed % PRIME, SALTS[2])


def _fifth_power(h: Tensor) -> Tensor:
    square = h * h % PRIME
    return square * square % PRIME * h % PRIME
