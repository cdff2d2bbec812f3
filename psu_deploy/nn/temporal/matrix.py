"""The learned T x T matrix under a causal mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.constants import starting_device
from psu_deploy.nn.temporal.base import CausalOperator, Recurrence
from psu_deploy.nn.temporal.entries import SpreadOut, places
from psu_deploy.nn.temporal.leak import Leak
from psu_deploy.nn.temporal.product import Band, causal_product
from psu_deploy.numerics.checks import check_whole
from psu_deploy.numerics.subnormal import flushed

Init = Literal["leak", "kaiming"]


class CausalMatrix(CausalOperator):
    """Learned T x T matrix under a causal mask, optionally banded, with an optional bias per step.

    `y[t] = sum_{s = t-k+1 .. t} A[t, s] x[s] + b[t]`. Only the entries under the mask exist as
    parameters, so nothing above the diagonal can get a gradient or drift under weight decay.

    Serial form: at step t add column t to the k - 1 sums still to come and read the sum of row t:
    at most k - 1 numbers of state per neuron, and a step counter.

    Args:
        steps: the horizon T.
        order: the band k, the number of steps a row looks at including its own; None = all T.
        bias: learn one number per step, starting at 0.
        init: `"leak"` starts at the leak matrix given by gain and decay; `"kaiming"` draws every
            entry from N(0, 2/T) as the authors' code does.
        gain: of the leak matrix to start at.
        decay: of the leak matrix to start at.
    """

    def __init__(
        self,
        steps: int,
        *,
        order: int | None = None,
        bias: bool = False,
        init: Init = "leak",
        gain: float = 0.5,
        decay: float = 0.5,
    ) -> None:
        super().__init__()
        check_whole("steps", steps)
        if order is not None:
            check_whole("order", order)
        order = steps if order is None else order
        if steps < 1 or not 1 <= order <= steps:
            raise InputError(f"need steps >= 1 and 1 <= order <= steps, got steps={steps}, order={order}")
        self.steps = steps
        self.order = order
        self.register_buffer("_places", places(steps, order).to(starting_device()), persistent=False)
        self._places: Tensor
        self.entries = nn.Parameter(torch.empty(len(self._places)))
        self.step_bias = nn.Parameter(torch.zeros(steps)) if bias else None
        self._initialise(init, gain, decay)

    def _initialise(self, init: str, gain: float, decay: float) -> None:
        if init == "leak":
            start = Leak(gain, decay).matrix(self.steps)
        elif init == "kaiming":
            start = torch.randn(self.steps, self.steps) * math.sqrt(2.0 / self.steps)
        else:
            raise InputError(f'init must be "leak" or "kaiming", got {init!r}')
        with torch.no_grad():
            self.entries.copy_(start.flatten()[self._places.to(start.device)])
            self.entries.copy_(flushed(self.entries))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        moved = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # to_empty() would lose them: the numbers stay, the device changes.
        self._places = places(self.steps, self.order).to(self._places.device)
        return moved

    @property
    def horizon(self) -> int:
        return self.steps

    def forward(self, x: Tensor) -> Tensor:
        y, bias = self.product(x), self.bias_of(x)
        return y if bias is None else y + bias.view(-1, *[1] * (x.ndim - 1))

    def product(self, x: Tensor) -> Tensor:
        """`A x`, without the bias: (T, ...) -> (T, ...)."""
        steps = len(x)
        self._check_horizon(steps)
        dense: Tensor = SpreadOut.apply(self.entries.to(x.dtype), self._places, self.steps)
        square = dense if steps == self.steps else dense[:steps, :steps]
        return causal_product(square, x, Band(min(self.order, steps)))

    def bias_of(self, x: Tensor) -> Tensor | None:
        """The bias of the steps of a sequence, (T,) in its dtype; None where there is none."""
        bias = self.step_bias
        return None if bias is None else bias.to(x.dtype) if len(x) == self.steps else bias.to(x.dtype)[: len(x)]

    def matrix(self, steps: int) -> Tensor:
        self._check_horizon(steps)
        dense = torch.zeros(self.steps**2, dtype=torch.float64, device="cpu")
        dense[self._places.cpu()] = self.entries.detach().double().cpu()
        return dense.view(self.steps, self.steps)[:steps, :steps]

    def bias(self, steps: int) -> Tensor:
        self._check_horizon(steps)
        if self.step_bias is None:
            return super().bias(steps)
        return self.step_bias.detach().double().cpu()[:steps]

    def set_matrix(self, matrix: Tensor, bias: Tensor | None = None) -> None:
        """Replace the learned numbers.

        Args:
            matrix: (T, T), zero outside the band. A numpy array will do.
            bias: (T,); gives the operator a bias if it had none. None leaves the bias as it is.

        Raises:
            InputError: if a shape is wrong, or an entry above the diagonal or outside the band is not zero.
        """
        matrix = torch.as_tensor(matrix)
        if matrix.shape != (self.steps, self.steps):
            raise InputError(f"matrix must have shape {(self.steps, self.steps)}, got {tuple(matrix.shape)}")
        kept = matrix.flatten()[self._places.to(matrix.device)]
        if torch.count_nonzero(matrix) != torch.count_nonzero(kept):
            raise InputError(
                f"matrix must be zero above the diagonal and outside the last {self.order} step(s); "
                "a row that looks ahead has no serial form. Apply the mask first, for example torch.tril(matrix)"
            )
        bias = None if bias is None else torch.as_tensor(bias)
        if bias is not None and bias.shape != (self.steps,):
            raise InputError(f"bias must have shape {(self.steps,)}, got {tuple(bias.shape)}")
        with torch.no_grad():
            self.entries.copy_(kept)
            if bias is not None and self.step_bias is None:
                self.step_bias = nn.Parameter(self.entries.new_empty(self.steps))
            if bias is not None and self.step_bias is not None:
                self.step_bias.copy_(bias)

    def recurrence(self) -> Recurrence:
        return banded(self.matrix(self.steps), self.bias(self.steps), self.order)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, order={self.order}, bias={self.step_bias is not None}"


def banded(matrix: Tensor, bias: Tensor, order: int) -> Recurrence:
    """The serial form of a causal matrix (T, T) whose rows look at `order` steps: partial sums, or a window of them."""
    steps = len(matrix)
    if order == steps:
        return Recurrence("partial_sums", {"matrix": matrix, "bias": bias}, horizon=steps)
    columns = torch.zeros(steps, order, dtype=torch.float64, device="cpu")
    for lag in range(order):
        columns[: steps - lag, lag] = torch.diagonal(matrix, -lag)
    return Recurrence("window", {"columns": columns, "bias": bias}, horizon=steps)
