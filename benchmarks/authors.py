"""Other people's neurons, to measure ours against: those of arXiv 2402.00449 by their equations, and SpikingJelly's.

The matrices of the PSU family as their authors' code has them, a = 1/tau:

    m1[i, j] = a**(i - j + 1) for i >= j      m2[i, j] = -a**(i - j) for i > j

every product of them dense, T x T. Entries that are subnormal are left out: they would make any of it several times
slower. The spike function is the one autograd Function that such code has, with the Atan surrogate.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor, nn

TAU, THRESHOLD = 2.0, 0.5


class Fire(torch.autograd.Function):
    """`x > 0`, with the slope of an arcus tangent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.gt(0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 1.0 / (1 + (math.pi / 2 * 2.0 * x).pow(2)) * grads[0]


class DenseUnit(nn.Module):
    """What the four share: m1, m2, and for all but PSU a learned matrix under a mask and a bias per step."""

    def __init__(self, steps: int, learned: bool) -> None:
        super().__init__()
        lag = torch.arange(steps)[:, None] - torch.arange(steps)
        powers = torch.pow(1 / TAU, lag.clamp(min=0).double()).float()
        powers[powers < torch.finfo(torch.float32).tiny] = 0.0
        self.register_buffer("m1", powers.tril() / TAU)
        self.register_buffer("m2", -powers.tril(-1))
        self.register_buffer("mask", torch.ones(steps, steps).tril())
        if learned:
            self.weight = nn.Parameter(torch.randn(steps, steps) * math.sqrt(2 / steps))
            self.bias = nn.Parameter(torch.zeros(steps, 1))

    def learned(self, x: Tensor) -> Tensor:
        """`(W .* mask) x + b`."""
        return torch.addmm(self.bias, self.weight * self.mask, x)

    def forward(self, x: Tensor) -> Tensor:
        return Fire.apply(self.membrane(x.flatten(1)) - THRESHOLD).view_as(x)

    def membrane(self, x: Tensor) -> Tensor:
        """Of all steps, (T, B*N)."""
        raise NotImplementedError


class DensePSU(DenseUnit):
    """`u = m1 x; u + th m2 sigmoid(u)`."""

    def membrane(self, x: Tensor) -> Tensor:
        u = self.m1 @ x
        return u + (THRESHOLD * self.m2) @ u.sigmoid()


class DenseIPSU(DenseUnit):
    """`d + m2 x`."""

    def membrane(self, x: Tensor) -> Tensor:
        return self.learned(x) + self.m2 @ x


class DensePPSU(DenseUnit):
    """`d + m2 sigmoid(d)`."""

    def membrane(self, x: Tensor) -> Tensor:
        d = self.learned(x)
        return d + self.m2 @ d.sigmoid()


class DenseRPSU(DenseUnit):
    """`m1 x + m2 sigmoid(d)`."""

    def membrane(self, x: Tensor) -> Tensor:
        return self.m1 @ x + self.m2 @ self.learned(x).sigmoid()


class DensePSN(nn.Module):
    """`W x + b` and nothing else: the plain product."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(steps, steps).uniform_(-(steps**-0.5), steps**-0.5))
        self.bias = nn.Parameter(torch.full((steps, 1), -1.0))

    def forward(self, x: Tensor) -> Tensor:
        return Fire.apply(torch.addmm(self.bias, self.weight, x.flatten(1))).view_as(x)


class Jelly(nn.Module):
    """A SpikingJelly neuron over all steps, reset before each sequence."""

    def __init__(self, kind: str, **arguments: Any) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        make = getattr(neuron, kind)
        self.neuron = make(**arguments, surrogate_function=surrogate.ATan(), step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        self.neuron.reset()
        return self.neuron(x)


def jelly_lif(steps: int) -> nn.Module | None:
    """None where SpikingJelly is not installed."""
    return Jelly("LIFNode", tau=TAU, v_threshold=THRESHOLD, v_reset=None) if HAS_JELLY else None


def jelly_sliding(steps: int) -> nn.Module | None:
    """Of order 32 at most; None where SpikingJelly is not installed."""
    return Jelly("SlidingPSN", k=min(32, steps)) if HAS_JELLY else None


HAS_JELLY = importlib.util.find_spec("spikingjelly") is not None
