"""A learned sum of exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.temporal.base import CausalOperator, Recurrence
from psu_deploy.temporal.leak import Leak


class Exponentials(CausalOperator):
    """Learned sum of r exponentials, `A[i, j] = sum_m gains[m] * decays[m]**(i - j)` for `i >= j`.

    Serial form: r leaks, r numbers of state per neuron, any number of steps. Decays are learned
    through their logits, so they stay inside (0, 1).

    Args:
        gains: (r,) to start at.
        decays: (r,) to start at, each strictly between 0 and 1.
    """

    def __init__(self, gains: Sequence[float], decays: Sequence[float]) -> None:
        super().__init__()
        if len(gains) != len(decays) or not len(gains):
            raise InputError(f"need as many gains as decays, at least one; got {len(gains)} and {len(decays)}")
        if not all(0.0 < decay < 1.0 for decay in decays):
            raise InputError(f"decays must lie strictly between 0 and 1, got {list(decays)}")
        self.gains = nn.Parameter(torch.tensor(list(gains), dtype=torch.get_default_dtype()))
        start = torch.tensor(list(decays), dtype=torch.float64)
        self.decay_logits = nn.Parameter(torch.logit(start).to(torch.get_default_dtype()))

    @property
    def decays(self) -> Tensor:
        """(r,) factors per step, `sigmoid(decay_logits)`."""
        return torch.sigmoid(self.decay_logits)

    def forward(self, x: Tensor) -> Tensor:
        per_neuron = (-1, *[1] * (x.ndim - 1))
        gains, decays = (v.to(x.dtype).view(per_neuron) for v in (self.gains, self.decays))
        traces = x.new_zeros(len(self.gains), *x.shape[1:])
        outputs = []
        for x_t in x:
            traces = decays * traces + gains * x_t
            outputs.append(traces.sum(0))
        return torch.stack(outputs)

    def matrix(self, steps: int) -> Tensor:
        gains, decays = (v.tolist() for v in self._exact())
        parts = [Leak(gain, decay).matrix(steps) for gain, decay in zip(gains, decays, strict=True)]
        return torch.stack(parts).sum(0)

    def recurrence(self) -> Recurrence:
        gains, decays = self._exact()
        return Recurrence("exponentials", {"gains": gains, "decays": decays})

    def _exact(self) -> tuple[Tensor, Tensor]:
        return self.gains.detach().double().cpu(), self.decays.detach().double().cpu()

    def extra_repr(self) -> str:
        return f"terms={self.gains.numel()}"
