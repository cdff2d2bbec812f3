"""Learned weights of the last k inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.entries import Toeplitz
from psu_deploy.nn.temporal.product import Band, causal_product
from psu_deploy.numerics.checks import check_whole


class SlidingWindow(CausalOperator):
    """Learned weights of the last k inputs, the same at every step, with an optional bias.

    `y[t] = sum_{l = 0 .. k-1} w[l] x[t - l] + b`, inputs before t = 0 are zero. Any number of steps.
    Serial form: k - 1 partial sums of state per neuron.

    Args:
        order: k.
        bias: learn one number for all steps, starting at 0.
        gain: w starts at `gain * decay**l`.
        decay: see gain.
    """

    def __init__(self, order: int, *, bias: bool = False, gain: float = 0.5, decay: float = 0.5) -> None:
        super().__init__()
        check_whole("order", order)
        if order < 1:
            raise InputError(f"order must be at least 1, got {order}")
        self.weight = nn.Parameter(gain * torch.pow(decay, torch.arange(order, dtype=torch.float64)).float())
        self.step_bias = nn.Parameter(torch.zeros(())) if bias else None

    @property
    def order(self) -> int:
        """k, the number of inputs a step looks at, its own included."""
        return self.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        return y if self.step_bias is None else y + self.step_bias.to(x.dtype)

    def product(self, x: Tensor) -> Tensor:
        """`A x`, without the bias: (T, ...) -> (T, ...)."""
        band = Band(min(self.order, len(x)), invariant=True)
        weight = self.weight.to(x.dtype)
        weight = weight if band.order == self.order else weight[: band.order]
        return causal_product(Toeplitz.apply(weight, band.side(len(x))), x, band)

    def bias_of(self, x: Tensor) -> Tensor | None:
        """The bias of the steps of a sequence, (T,) in its dtype; None where there is none."""
        return None if self.step_bias is None else self.step_bias.to(x.dtype).expand(len(x))

    def matrix(self, steps: int) -> Tensor:
        matrix = torch.zeros(steps, steps, dtype=torch.float64, device="cpu")
        for lag, weight in enumerate(self.weight.detach().double().cpu()[:steps]):
            matrix += torch.diag(weight.expand(steps - lag), -lag)
        return matrix

    def bias(self, steps: int) -> Tensor:
        if self.step_bias is None:
            return super().bias(steps)
        return self.step_bias.detach().double().cpu().repeat(steps)

    def recurrence(self) -> Recurrence:
        return Recurrence("window", {"columns": self.weight.detach().double().cpu()[None], "bias": self.bias(1)})

    def extra_repr(self) -> str:
        return f"order={self.order}, bias={self.step_bias is not None}"
