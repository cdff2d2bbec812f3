"""Operators that forget at a fixed rate, and the one that remembers nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.scan import leak_scan


class Identity(CausalOperator):
    """`y[t] = x[t]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def matrix(self, steps: int) -> Tensor:
        return torch.eye(steps, dtype=torch.float64, device="cpu")

    def recurrence(self) -> Recurrence:
        return Recurrence("identity", {})


class Leak(CausalOperator):
    """Exponential leak, `A[i, j] = gain * decay**(i - j)` for `i >= j`.

    Serial form: `y = decay*y + gain*x`, one number of state per neuron.

    Args:
        gain: factor of the input; `1/tau` in the paper.
        decay: factor per step, in [0, 1]; `1 - 1/tau` in the paper.

    Reference: arXiv 2402.00449, Eq. 5.

    >>> Leak(gain=0.5, decay=0.5).matrix(3)
    tensor([[0.5000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.0000],
            [0.1250, 0.2500, 0.5000]], dtype=torch.float64)
    """

    strict = False

    def __init__(self, gain: float, decay: float) -> None:
        super().__init__()
        if not 0.0 <= decay <= 1.0:
            raise InputError(f"decay must lie in [0, 1], got {decay}")
        if not math.isfinite(gain):
            raise InputError(f"gain must be finite, got {gain}")
        self.gain = float(gain)
        self.decay = float(decay)

    def forward(self, x: Tensor) -> Tensor:
        return leak_scan(x, self.gain, self.decay, strict=self.strict)

    def matrix(self, steps: int) -> Tensor:
        step = torch.arange(steps, device="cpu")
        lag = step[:, None] - step[None, :]
        powers = torch.pow(self.decay, lag.clamp(min=0).to(torch.float64))
        return torch.where(lag >= int(self.strict), self.gain * powers, 0.0)

    def recurrence(self) -> Recurrence:
        gain, decay = (torch.tensor(v, dtype=torch.float64, device="cpu") for v in (self.gain, self.decay))
        return Recurrence("strict_leak" if self.strict else "leak", {"gain": gain, "decay": decay})

    def extra_repr(self) -> str:
        return f"gain={self.gain:g}, decay={self.decay:g}"


class StrictLeak(Leak):
    """Leak that sees only earlier steps, `B[i, j] = gain * decay**(i - j)` for `i > j`.

    Serial form: read y, then `y = decay*(y + gain*x)`, one number of state per neuron.

    Args:
        gain: factor of the input; the threshold in the paper.
        decay: factor per step, in [0, 1]; `1 - 1/tau` in the paper.

    Reference: arXiv 2402.00449, Eq. 7.

    >>> StrictLeak(gain=1.0, decay=0.5).matrix(3)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.5000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.0000]], dtype=torch.float64)
    """

    strict = True
