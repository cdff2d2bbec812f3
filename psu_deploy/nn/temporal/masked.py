"""The T x T matrix that becomes causal while it is trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.matrix import banded
from psu_deploy.nn.temporal.product import Band, causal_product
from psu_deploy.numerics.checks import check_number, check_whole


class MaskedMatrix(CausalOperator):
    """Full T x T matrix whose entries outside a causal band fade out: `A = (lambda M + (1 - lambda) 1) .* W`.

    `M[i, j] = 1` for `j <= i < j + k`, else 0. At `lambda_ = 1` row t looks at steps t-k+1 .. t only; below 1 it looks
    ahead, so it needs the whole sequence and has no serial form.

    Args:
        steps: the horizon T.
        order: the band k.
        lambda_: how far the masking has gone, from 0 to 1.

    Reference: arXiv 2304.12760, masked PSN.
    """

    lambda_buffer: Tensor

    def __init__(self, steps: int, order: int, lambda_: float = 1.0) -> None:
        super().__init__()
        check_whole("steps", steps)
        check_whole("order", order)
        if steps < 1 or not 1 <= order <= steps:
            raise InputError(f"need steps >= 1 and 1 <= order <= steps, got steps={steps}, order={order}")
        self.steps = steps
        self.order = order
        bound = 1.0 / math.sqrt(steps)
        self.weight = nn.Parameter(torch.empty(steps, steps).uniform_(-bound, bound))
        self.step_bias = nn.Parameter(torch.full((steps,), -1.0))
        self.register_buffer("lambda_buffer", torch.ones(()))
        self.lambda_ = lambda_

    @property
    def lambda_(self) -> float:
        """How far the masking has gone; set it while training, saved with the parameters."""
        return float(self.lambda_buffer)

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        check_number("lambda_", value)
        if not 0.0 <= value <= 1.0:
            raise InputError(f"lambda_ must lie in 0..1, got {value}")
        self.lambda_buffer.fill_(value)

    @property
    def horizon(self) -> int:
        return self.steps

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x) + self.bias_of(x).view(-1, *[1] * (x.ndim - 1))

    def product(self, x: Tensor) -> Tensor:
        """`A x`, without the bias: (T, ...) -> (T, ...)."""
        steps = len(x)
        self._check_horizon(steps)
        if steps != self.steps and self.lambda_ < 1.0:
            raise HorizonError(
                f"with lambda_ = {self.lambda_:g} < 1 a row looks ahead and needs all {self.steps} steps, got {steps}"
            )
        if self._is_known_to_be_causal():
            weight = self.weight if steps == self.steps else self.weight[:steps, :steps]
            weight = weight.tril() if self.order >= steps else weight.tril().triu(1 - self.order)
            return causal_product(weight.to(x.dtype), x, Band(min(self.order, steps)))
        return (self._masked(self.weight).to(x.dtype)[:steps, :steps] @ x.flatten(1)).view_as(x)

    def bias_of(self, x: Tensor) -> Tensor:
        """The bias of the steps of a sequence, (T,) in its dtype."""
        bias = self.step_bias.to(x.dtype)
        return bias if len(x) == self.steps else bias[: len(x)]

    def _is_known_to_be_causal(self) -> bool:
        """On the CPU only: a GPU would be waited for. Under a transform lambda may be many numbers."""
        if self.lambda_buffer.device.type != "cpu" or torch._C._are_functorch_transforms_active():
            return False
        return not torch.compiler.is_compiling() and self.lambda_ == 1.0

    def matrix(self, steps: int) -> Tensor:
        self._check_horizon(steps)
        return self._masked(self.weight.detach().double()).cpu()[:steps, :steps]

    def bias(self, steps: int) -> Tensor:
        self._check_horizon(steps)
        return self.step_bias.detach().double().cpu()[:steps]

    def set_matrix(self, matrix: Tensor, bias: Tensor | None = None) -> None:
        """Replace W, before masking.

        Args:
            matrix: (T, T). A numpy array will do.
            bias: (T,); None leaves the bias as it is.

        Raises:
            InputError: if a shape is wrong.
        """
        for name, value, shape in (("matrix", matrix, (self.steps,) * 2), ("bias", bias, (self.steps,))):
            if value is not None and tuple(value.shape) != shape:
                raise InputError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
        with torch.no_grad():
            self.weight.copy_(torch.as_tensor(matrix))
            if bias is not None:
                self.step_bias.copy_(torch.as_tensor(bias))

    def recurrence(self) -> Recurrence:
        if self.lambda_ < 1.0:
            raise HorizonError(f"lambda_ = {self.lambda_:g} < 1: rows still look ahead, so there is no serial form")
        matrix, bias = self.matrix(self.steps), self.bias(self.steps)
        return banded(matrix, bias, self.order)

    def _masked(self, weight: Tensor) -> Tensor:
        ones = torch.ones_like(weight)
        band = ones.tril() - ones.tril(-self.order)
        lambda_ = self.lambda_buffer.to(weight)
        return weight * (lambda_ * band + (1.0 - lambda_))

    def extra_repr(self) -> str:
        lambda_ = "unknown" if self.lambda_buffer.is_meta else f"{self.lambda_:g}"
        return f"steps={self.steps}, order={self.order}, lambda_={lambda_}"
