"""What a causal operator is, and its serial form as plain numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from psu_deploy.errors import HorizonError


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
    | exponentials | r leaks, summed, and bias added | gains, decays, bias |

    Shapes: gain, decay (); matrix (T, T); columns (rows, k); bias (rows,), of exponentials ();
    gains, decays (r,); all float64.
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
        return torch.zeros(steps, dtype=torch.float64, device="cpu")

    @abstractmethod
    def recurrence(self) -> Recurrence:
        """The coefficients of the serial form."""

    def _check_horizon(self, steps: int) -> None:
        if self.horizon is not None and steps > self.horizon:
            raise HorizonError(
                f"{type(self).__name__} is defined for {self.horizon} steps but was given {steps}; "
                "a sequence is time-first, (T, B, ...): is this one batch-first?"
            )
