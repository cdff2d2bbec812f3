"""A learned sum of exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.kernels import operators
from psu_deploy.nn.kernels.choice import pays
from psu_deploy.nn.kernels.reference import exponentials
from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.leak import Leak
from psu_deploy.numerics.checks import check_whole

SMALL_GAIN = 0.01
"""Of the terms that `Exponentials.near_leak` adds to the leak: zero would keep their decays from learning."""

CLOSEST = 0.001
"""How close to 0 and 1 a learned decay starts: the slope of its sigmoid vanishes there."""


class Exponentials(CausalOperator):
    """Learned sum of r exponentials, `A[i, j] = sum_m gains[m] * decays[m]**(i - j)` for `i >= j`; also with a bias.

    Serial form: r leaks, r numbers of state per neuron, any number of steps. Decays are learned
    through their logits, so they stay inside (0, 1).

    Args:
        gains: (r,) to start at.
        decays: (r,) to start at, each strictly between 0 and 1.
        bias: one number for all steps, added to every result and learned, to start at; None = none.

    Attributes:
        gains: (r,), learned.
        decay_logits: (r,), learned.
        offset: the bias, (), learned; None where there is none.
    """

    def __init__(self, gains: Sequence[float], decays: Sequence[float], bias: float | None = None) -> None:
        super().__init__()
        if len(gains) != len(decays) or not len(gains):
            raise InputError(f"need as many gains as decays, at least one; got {len(gains)} and {len(decays)}")
        if not all(0.0 < decay < 1.0 for decay in decays):
            raise InputError(f"decays must lie strictly between 0 and 1, got {list(decays)}")
        self.gains = nn.Parameter(torch.tensor(list(gains), dtype=torch.get_default_dtype()))
        start = torch.tensor(list(decays), dtype=torch.float64)
        self.decay_logits = nn.Parameter(torch.logit(start).to(torch.get_default_dtype()))
        self.offset = None if bias is None else nn.Parameter(torch.tensor(float(bias)))

    @staticmethod
    def near_leak(terms: int, gain: float, decay: float, bias: float | None = None) -> Exponentials:
        """A sum of exponentials that starts at a leak: the first term is the leak, the others are small.

        Args:
            terms: r.
            gain: of the leak.
            decay: of the leak; one closer than 0.001 to 0 or 1 starts there.
            bias: as for `Exponentials`.

        Raises:
            InputError: if terms is not a whole number of at least 1, or decay is not in [0, 1].
        """
        check_whole("terms", terms)
        if terms < 1:
            raise InputError(f"terms must be at least 1, got {terms}")
        leak = Leak(gain, decay)
        spread = [m / terms for m in range(1, terms)]
        inside = min(max(leak.decay, CLOSEST), 1.0 - CLOSEST)
        return Exponentials([leak.gain, *[SMALL_GAIN] * len(spread)], [inside, *spread], bias)

    @property
    def decays(self) -> Tensor:
        """(r,) factors per step, `sigmoid(decay_logits)` in float64: every form of a network rounds the same."""
        return torch.sigmoid(self.decay_logits.double())

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        return y if self.offset is None else y + self.offset.to(x.dtype)

    def product(self, x: Tensor) -> Tensor:
        """`A x`, without the bias: (T, ...) -> (T, ...)."""
        gains, decays = self.gains.to(x.dtype), self.decays.to(x.dtype)
        return (operators.exponentials if pays("exponentials", x) else exponentials)(x, gains, decays)

    def bias_of(self, x: Tensor) -> Tensor | None:
        """The bias of the steps of a sequence, (T,) in its dtype; None where there is none."""
        return None if self.offset is None else self.offset.to(x.dtype).expand(len(x))

    def matrix(self, steps: int) -> Tensor:
        gains, decays = (v.tolist() for v in self._exact())
        parts = [Leak(gain, decay).matrix(steps) for gain, decay in zip(gains, decays, strict=True)]
        return torch.stack(parts).sum(0)

    def bias(self, steps: int) -> Tensor:
        if self.offset is None:
            return super().bias(steps)
        return self.offset.detach().double().cpu().repeat(steps)

    def recurrence(self) -> Recurrence:
        gains, decays = self._exact()
        return Recurrence("exponentials", {"gains": gains, "decays": decays, "bias": self.bias(1)[0]})

    def _exact(self) -> tuple[Tensor, Tensor]:
        return self.gains.detach().double().cpu(), self.decays.detach().cpu()

    def extra_repr(self) -> str:
        return f"terms={self.gains.numel()}, bias={self.offset is not None}"
