"""Causal operators: linear maps along time, shared by all neurons of a layer.

Row t of a causal operator looks at steps <= t only, so each has two equal forms:

* parallel: `forward` maps a whole sequence (T, B, ...) at once, with autograd;
* serial: `recurrence()` gives the coefficients of the step-by-step form.

`matrix(T)` and `bias(T)` give the operator as plain numbers in float64, `y = matrix @ x + bias`,
to check either form against.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.scan import leak_scan

Init = Literal["leak", "kaiming"]


@dataclass(frozen=True)
class Recurrence:
    """The serial form of a causal operator, as plain numbers.

    | kind | serial form | coefficients |
    |---|---|---|
    | identity | `y = x` | |
    | leak | `y = decay*y + gain*x` | gain, decay |
    | strict_leak | read y, then `y = decay*(y + gain*x)` | gain, decay |
    | partial_sums | add column t of `matrix` times x to the sums of the steps to come, read sum t | matrix, bias |
    | window | add `columns[t]` times x to the k sums from step t on, read the first, shift | columns, bias |
    | exponentials | r leaks, summed | gains (r,), decays (r,) |

    Shapes: gain, decay (); matrix (T, T); columns (rows, k); bias (rows,); gains, decays (r,); all float64.
    `columns[t, l]` is the entry (t + l, t) of the matrix. With `horizon=None` the coefficients hold for every step
    and `columns`, `bias` have one row; otherwise row t belongs to step t.
    """

    kind: Literal["identity", "leak", "strict_leak", "partial_sums", "window", "exponentials"]
    coefficients: dict[str, Tensor]
    horizon: int | None = None


class CausalOperator(nn.Module, ABC):
    """Base of the causal operators: `y[t] = sum_{s <= t} A[t, s] x[s] + b[t]`."""

    @property
    def horizon(self) -> int | None:
        """Number of steps the operator is defined for; None = any number."""
        return None

    @abstractmethod
    def matrix(self, steps: int) -> Tensor:
        """The (steps, steps) matrix A in float64, detached, on the CPU."""

    def bias(self, steps: int) -> Tensor:
        """The (steps,) vector b in float64, detached, on the CPU."""
        return torch.zeros(steps, dtype=torch.float64)

    @abstractmethod
    def recurrence(self) -> Recurrence:
        """The coefficients of the serial form."""

    def _check_horizon(self, steps: int) -> None:
        if self.horizon is not None and steps > self.horizon:
            raise HorizonError(
                f"{type(self).__name__} is defined for {self.horizon} steps but was given {steps}; "
                "a sequence is time-first, (T, B, ...): is this one batch-first?"
            )


class Identity(CausalOperator):
    """`y[t] = x[t]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def matrix(self, steps: int) -> Tensor:
        return torch.eye(steps, dtype=torch.float64)

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
        lag = torch.arange(steps)[:, None] - torch.arange(steps)[None, :]
        powers = torch.pow(self.decay, lag.clamp(min=0).to(torch.float64))
        return torch.where(lag >= int(self.strict), self.gain * powers, 0.0)

    def recurrence(self) -> Recurrence:
        gain, decay = (torch.tensor(v, dtype=torch.float64) for v in (self.gain, self.decay))
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
        order = steps if order is None else order
        if steps < 1 or not 1 <= order <= steps:
            raise InputError(f"need steps >= 1 and 1 <= order <= steps, got steps={steps}, order={order}")
        self.steps = steps
        self.order = order
        rows, columns = torch.tril_indices(steps, steps)
        band = rows - columns < order
        self.register_buffer("_rows", rows[band], persistent=False)
        self.register_buffer("_columns", columns[band], persistent=False)
        self._rows: Tensor
        self._columns: Tensor
        self.entries = nn.Parameter(torch.empty(len(self._rows)))
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
            self.entries.copy_(start[self._rows, self._columns])

    @property
    def horizon(self) -> int:
        return self.steps

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[0]
        self._check_horizon(steps)
        y = (self._dense(self.entries.to(x.dtype))[:steps, :steps] @ x.flatten(1)).view_as(x)
        if self.step_bias is not None:
            y = y + self.step_bias.to(x.dtype)[:steps].view(-1, *[1] * (x.ndim - 1))
        return y

    def matrix(self, steps: int) -> Tensor:
        self._check_horizon(steps)
        return self._dense(self.entries.detach().double()).cpu()[:steps, :steps]

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
        kept = matrix[self._rows.cpu(), self._columns.cpu()]
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
        matrix, bias = self.matrix(self.steps), self.bias(self.steps)
        if self.order == self.steps:
            return Recurrence("partial_sums", {"matrix": matrix, "bias": bias}, horizon=self.steps)
        columns = torch.zeros(self.steps, self.order, dtype=torch.float64)
        for lag in range(self.order):
            columns[: self.steps - lag, lag] = torch.diagonal(matrix, -lag)
        return Recurrence("window", {"columns": columns, "bias": bias}, horizon=self.steps)

    def _dense(self, entries: Tensor) -> Tensor:
        dense = entries.new_zeros(self.steps, self.steps)
        return dense.index_put((self._rows, self._columns), entries)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, order={self.order}, bias={self.step_bias is not None}"


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
        if order < 1:
            raise InputError(f"order must be at least 1, got {order}")
        self.weight = nn.Parameter(gain * torch.pow(decay, torch.arange(order, dtype=torch.float64)).float())
        self.step_bias = nn.Parameter(torch.zeros(())) if bias else None

    @property
    def order(self) -> int:
        """k, the number of inputs a step looks at, its own included."""
        return self.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        y = weight[0] * x
        for lag in range(1, min(self.order, len(x))):
            y = y + nn.functional.pad(weight[lag] * x[:-lag], (0, 0) * (x.ndim - 1) + (lag, 0))
        return y if self.step_bias is None else y + self.step_bias.to(x.dtype)

    def matrix(self, steps: int) -> Tensor:
        matrix = torch.zeros(steps, steps, dtype=torch.float64)
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
