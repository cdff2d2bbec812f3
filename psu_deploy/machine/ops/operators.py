"""Causal operators in serial form.

An operator maps one current per neuron and step to one number per neuron and step. Its state is a
float tensor (B, *state_shape(features)) that starts at zero. All coefficients are float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Array, Shape, finite, freeze
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["CausalOperator", "Exponentials", "Identity", "Leak", "PartialSums", "StrictLeak", "Window"]


class Terms(NamedTuple):
    """What one result of an operator is summed of.

    Attributes:
        products: how many; a leak's are counted step by step, in its state.
        bias: |bias|; None = there is none.
    """

    products: int
    bias: Tensor | None = None


class CausalOperator(ABC):
    """Base of the operators: no state, any number of steps."""

    @property
    def horizon(self) -> int | None:
        """Number of steps the operator is defined for; None = any number."""
        return None

    @property
    def strict(self) -> bool:
        """Whether a step's output looks at earlier steps only, never at its own input."""
        return False

    def state_shape(self, features: Shape) -> Shape | None:
        """Shape of the state per sample; None = no state."""
        return None

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""
        return 0

    @abstractmethod
    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        """What the operator means: (B, *features) in and out; its state is the one of that role in the context."""

    @property
    def keeps_products(self) -> bool:
        """Whether the state is a sum of products that ends in one result: its roundings are counted there."""
        return False

    @abstractmethod
    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        """What a result of that step is summed of."""

    def error(self, role: str, pair: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """How far rounding can be off: one step with absolute numbers, its bias added as an offset; see `roundoff`."""
        terms = self.terms(context.step, roundoff)
        return roundoff.rounded(roundoff.absolute(self).step(role, pair, context), terms.products, terms.bias)


@op
class Identity(CausalOperator):
    """`y = x`. No state."""

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        return x

    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        return Terms(1)


@op
class Leak(CausalOperator):
    """`y = decay*y + gain*x`. State: y, one number per neuron."""

    gain: float
    decay: float

    def __post_init__(self) -> None:
        finite(self, "gain", "decay")

    def state_shape(self, features: Shape) -> Shape | None:
        return features

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        context.new_state[role] = context.state[role] * self.decay + self.gain * x
        return context.new_state[role]

    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        return Terms(1)


@op
class StrictLeak(Leak):
    """Read y, then `y = decay*(y + gain*x)`. State: y of the next step, one number per neuron."""

    @property
    def strict(self) -> bool:
        return True

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        state = context.state[role]
        context.new_state[role] = (state + self.gain * x) * self.decay
        return state


@op
class PartialSums(CausalOperator):
    """Learned T x T operator: the sums of all steps to come are kept, and grow with every input.

    At step t: `y = sums[t-1] + A[t, t]*x + b[t]`, then `sums[s-1] += A[s, t]*x` for every later step s.

    State: one sum for each of the steps 1 .. T-1, (B, T-1, *features); none for T = 1. Step 0 has no sum of its own:
    it reads the last one, which is still zero then.

    Args:
        matrix: A, (T, T), lower triangular.
        bias: b, (T,).
    """

    matrix: Array
    bias: Array

    def __post_init__(self) -> None:
        freeze(self, "matrix", 2)
        freeze(self, "bias", 1)
        if not 0 < len(self.bias) == self.matrix.shape[0] == self.matrix.shape[1]:
            raise InputError(f"PartialSums: matrix {self.matrix.shape} and bias {self.bias.shape} must be (T, T), (T,)")
        if np.triu(self.matrix, 1).any():
            raise InputError("PartialSums: matrix has entries above the diagonal, so it is not causal")

    @property
    def horizon(self) -> int | None:
        return len(self.bias)

    @property
    def strict(self) -> bool:
        return not np.diag(self.matrix).any()

    @property
    def parameters(self) -> int:
        """Numbers that were learned: those on and below the diagonal, and the bias if there is one."""
        steps = len(self.bias)
        return steps * (steps + 1) // 2 + (steps if self.bias.any() else 0)

    def state_shape(self, features: Shape) -> Shape | None:
        return (len(self.bias) - 1, *features) if len(self.bias) > 1 else None

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        t, matrix, bias = context.step, context.tensor(self.matrix), context.tensor(self.bias)
        y = matrix[t, t] * x
        if role in context.state:
            sums = context.state[role]
            y = y + sums[:, t - 1]
            later = matrix[1:, t].clone()
            later[:t] = 0.0
            context.new_state[role] = sums + later.view(1, -1, *[1] * (x.ndim - 1)) * x[:, None]
        return y + bias[t]

    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        return Terms(step + 1, roundoff.sizes(self.bias)[step])

    @property
    def keeps_products(self) -> bool:
        return True


@op
class Window(CausalOperator):
    """Banded and sliding operators of order k: the sums of the next k - 1 steps are kept.

    At step t: `sums = pending, then 0; sums[l] += columns[t, l]*x; y = sums[0] + bias[t]; pending = sums[1:]`.

    State: k - 1 numbers per neuron, (B, k-1, *features), the next step's first; none for k = 1.

    Args:
        columns: (rows, k), `columns[t, l]` = A[t + l, t]; row t belongs to step t, or one row for all steps.
        bias: (rows,).
        time_invariant: one row serves every step, so any number of steps can be run.
    """

    columns: Array
    bias: Array
    time_invariant: bool

    def __post_init__(self) -> None:
        freeze(self, "columns", 2)
        freeze(self, "bias", 1)
        rows, order = self.columns.shape
        if not 0 < rows == len(self.bias) or order < 1 or self.time_invariant not in (True, False):
            raise InputError(
                f"Window: columns {self.columns.shape} and bias {self.bias.shape} must be (rows, k), (rows,)"
            )
        if self.time_invariant and rows != 1:
            raise InputError(f"Window: a time-invariant window has one row, got {rows}")

    @property
    def order(self) -> int:
        """k, the number of steps a row looks at, its own included."""
        return int(self.columns.shape[1])

    @property
    def horizon(self) -> int | None:
        return None if self.time_invariant else len(self.columns)

    @property
    def strict(self) -> bool:
        return not self.columns[:, 0].any()

    @property
    def parameters(self) -> int:
        """Numbers that were learned: the columns as far as they reach, and the bias if there is one."""
        beyond = 0 if self.time_invariant else self.order * (self.order - 1) // 2
        return self.columns.size - beyond + (len(self.bias) if self.bias.any() else 0)

    def state_shape(self, features: Shape) -> Shape | None:
        return (self.order - 1, *features) if self.order > 1 else None

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        row = self._row(context.step)
        sums = context.tensor(self.columns)[row].view(1, -1, *[1] * (x.ndim - 1)) * x[:, None]
        if role in context.state:
            sums[:, :-1] += context.state[role]
            context.new_state[role] = sums[:, 1:]
        return sums[:, 0] + context.tensor(self.bias)[row]

    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        return Terms(self.order, roundoff.sizes(self.bias)[self._row(step)])

    @property
    def keeps_products(self) -> bool:
        return True

    def _row(self, step: int) -> int:
        return 0 if self.time_invariant else step


@op
class Exponentials(CausalOperator):
    """`y[m] = decays[m]*y[m] + gains[m]*x; y = sum over m + bias`. State: y[m], (B, r, *features).

    Args:
        gains: (r,).
        decays: (r,).
        bias: added to every result.
    """

    gains: Array
    decays: Array
    bias: float = 0.0

    def __post_init__(self) -> None:
        freeze(self, "gains", 1)
        freeze(self, "decays", 1)
        finite(self, "bias")
        if not 0 < len(self.gains) == len(self.decays):
            raise InputError(f"Exponentials: {len(self.gains)} gains but {len(self.decays)} decays")

    @property
    def parameters(self) -> int:
        """Numbers that were learned: gains, decays, and the bias if there is one."""
        return 2 * len(self.gains) + (1 if self.bias else 0)

    def state_shape(self, features: Shape) -> Shape | None:
        return (len(self.gains), *features)

    def step(self, role: str, x: Tensor, context: Context) -> Tensor:
        terms = (1, -1, *[1] * (x.ndim - 1))
        gains, decays = (context.tensor(v).view(terms) for v in (self.gains, self.decays))
        context.new_state[role] = decays * context.state[role] + gains * x[:, None]
        return context.new_state[role].sum(1) + self.bias

    def terms(self, step: int, roundoff: Roundoff) -> Terms:
        return Terms(len(self.gains) + 1, roundoff.scalar(abs(self.bias)))
