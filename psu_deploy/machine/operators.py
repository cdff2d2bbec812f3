"""Causal operators in serial form, and the pointwise estimators between them.

An operator maps one current per neuron and step to one number per neuron and step. Its state is a
float tensor (B, *state_shape(features)) that starts at zero. All coefficients are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.errors import InputError
from psu_deploy.machine.fields import Array, Shape, finite, freeze


@dataclass(frozen=True, eq=False)
class Identity:
    """`y = x`. No state."""

    @property
    def horizon(self) -> int | None:
        """Defined for any number of steps."""
        return None

    def state_shape(self, features: Shape) -> Shape | None:
        """No state."""
        return None


@dataclass(frozen=True, eq=False)
class Leak:
    """`y = decay*y + gain*x`. State: y, one number per neuron."""

    gain: float
    decay: float

    def __post_init__(self) -> None:
        finite(self, "gain", "decay")

    @property
    def horizon(self) -> int | None:
        """Defined for any number of steps."""
        return None

    def state_shape(self, features: Shape) -> Shape | None:
        """One number per neuron."""
        return features


@dataclass(frozen=True, eq=False)
class StrictLeak(Leak):
    """Read y, then `y = decay*(y + gain*x)`. State: y of the next step, one number per neuron."""


@dataclass(frozen=True, eq=False)
class PartialSums:
    """Learned T x T, banded and sliding operators of order k.

    `sums = pending shifted in from step t-1, with 0 last; sums[l] += columns[t, l]*x; y = sums[0] + bias[t]`,
    and `sums[1:]` is what is pending for the following steps. `columns[t, l] = A[t + l, t]`.

    State: k - 1 numbers per neuron, (B, k-1, *features); none for k = 1.

    Args:
        columns: (rows, k); row t belongs to step t, or one row for all steps.
        bias: (rows,).
        time_invariant: one row serves every step, so any number of steps can be run.
    """

    columns: Array
    bias: Array
    time_invariant: bool = False

    def __post_init__(self) -> None:
        freeze(self, "columns", 2)
        freeze(self, "bias", 1)
        rows, order = self.columns.shape
        if len(self.bias) != rows:
            raise InputError(f"PartialSums: {rows} rows of columns but {len(self.bias)} of bias")
        if rows < 1 or order < 1 or (self.time_invariant and rows != 1):
            raise InputError(f"PartialSums: columns of shape {self.columns.shape} do not fit {self.time_invariant=}")

    @property
    def order(self) -> int:
        """k, the number of steps a row looks at, its own included."""
        return self.columns.shape[1]

    @property
    def horizon(self) -> int | None:
        """T of a T x T matrix; None if time-invariant."""
        return None if self.time_invariant else len(self.columns)

    def state_shape(self, features: Shape) -> Shape | None:
        """k - 1 numbers per neuron."""
        return (self.order - 1, *features) if self.order > 1 else None


@dataclass(frozen=True, eq=False)
class Exponentials:
    """`y[m] = decays[m]*y[m] + gains[m]*x; y = sum over m`. State: (B, r, *features).

    Args:
        gains: (r,).
        decays: (r,).
    """

    gains: Array
    decays: Array

    def __post_init__(self) -> None:
        freeze(self, "gains", 1)
        freeze(self, "decays", 1)
        if not 0 < len(self.gains) == len(self.decays):
            raise InputError(f"Exponentials: {len(self.gains)} gains but {len(self.decays)} decays")

    @property
    def horizon(self) -> int | None:
        """Defined for any number of steps."""
        return None

    def state_shape(self, features: Shape) -> Shape | None:
        """r numbers per neuron."""
        return (len(self.gains), *features)


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """Estimated spike `S' = 1 / (1 + exp(-E))`. Not zero in silence: sigmoid(0) = 0.5."""


@dataclass(frozen=True, eq=False)
class RawCurrent:
    """No estimate: what enters the reset is E itself (IPSU as the authors coded it)."""


Operator = Identity | Leak | StrictLeak | PartialSums | Exponentials
Estimator = Sigmoid | RawCurrent
