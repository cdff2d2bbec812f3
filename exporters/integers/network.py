"""The integer network: what a .net file holds and every engine computes, as plain data.

A chain of layers. Each is a synapse (int8 weights) and a neuron; what passes between them are spikes, or whole
numbers. What differs from channel to channel has shape (C,), or (1,) where it is the same for all; a channel is an
entry of the neuron's first axis. What the numbers do, step by step, is written in `fixed_point`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from psu_deploy.machine.ops.fields import Shape

Integers = NDArray[np.int64]


def none() -> Integers:
    """Nothing, for every channel."""
    return np.zeros(1, np.int64)


@dataclass(frozen=True, eq=False)
class Dense:
    """`a = W x + b`.

    Args:
        weight: (out, in), -127..127.
        bias: (out,), in units of the weights.
    """

    weight: Integers
    bias: Integers


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation over two axes, the same number of zeros on both sides of an axis: `a = W * x + b`.

    Args:
        weight: (C_out, C_in/groups, kh, kw), -127..127.
        bias: (C_out,), in units of the weights.
        stride: (y, x).
        padding: (y, x), zeros on either side.
        dilation: (y, x).
        groups: number of groups.
    """

    weight: Integers
    bias: Integers
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, eq=False)
class Traces:
    """A leak, or a sum of them: `y[m] = decays[m]*y[m] + gains[m]*x; y = sum over m + bias`, factors in 1/4096.

    Args:
        decays: (r,), 0..4096; 0 forgets at once.
        gains: (r,), -4096..4096.
        bias: (C,).
    """

    decays: Integers
    gains: Integers
    bias: Integers


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of the next k - 1 steps are kept: learned T x T matrices (k = T), banded and sliding ones.

    At step t: `sums = pending, then 0; sums[l] += columns[t, l]*x; y = sums[0] + bias[t]; pending = sums[1:]`.

    Args:
        columns: (rows, k), -4096..4096, in 1/4096; row t belongs to step t, or one row for all steps.
        bias: (rows, C).
    """

    columns: Integers
    bias: Integers


Operator = Traces | Sums


@dataclass(frozen=True, eq=False)
class Table:
    """`S' = sigmoid of coefficient*E / 2^shift`, an argument in 1/1024, from a table: see
    `psu_deploy.numerics.sigmoid_table`.

    Args:
        coefficient: (C,), -4096..4096.
        shift: (C,), at least 0.
    """

    coefficient: Integers
    shift: Integers


@dataclass(frozen=True, eq=False)
class Levels:
    """`S' = values[number of k with E >= thresholds[k]]`, in 1/4096.

    Args:
        thresholds: (K, C), rising along K.
        values: (K + 1,).
    """

    thresholds: Integers
    values: Integers


@dataclass(frozen=True, eq=False)
class Raw:
    """`S' = E`."""


Estimator = Table | Levels | Raw


@dataclass(frozen=True, eq=False)
class Reset:
    """What the estimated spike leaves behind: `Q = coefficient*S' / 2^shift`.

        read R, then R = decay*(R + Q)      decay in 1/4096, or
        R = operator(Q)                     strictly causal: `columns[:, 0]` is zero

    Args:
        coefficient: (C,), -4096..4096.
        shift: (C,), at least 0.
        decay: 0..4096, or None where there is an operator.
        operator: or None where there is a decay.
    """

    coefficient: Integers
    shift: Integers
    decay: int | None
    operator: Sums | None = None


@dataclass(frozen=True, eq=False)
class PSU:
    """A neuron of the PSU family, or a sliding one, that is given `x = (a << fraction_bits) + fraction`.

        V = integrate(x);   E = estimate(x), or V;   R = reset(estimator(E)), or 0;   S = V - R >= threshold

    Args:
        fraction_bits: of the states, 0..8.
        integrate: what makes V.
        estimate: what makes E; None = V itself.
        estimator: the estimated spike.
        reset: None = no reset.
        threshold: (C,).
        fraction: (C,), 0 .. 2^fraction_bits - 1: what is left of the bias, in parts of a weight's unit.
    """

    fraction_bits: int
    integrate: Operator
    estimate: Operator | None
    estimator: Estimator
    reset: Reset | None
    threshold: Integers
    fraction: Integers = field(default_factory=none)


@dataclass(frozen=True, eq=False)
class LIF:
    """`H = decay*V + x; S = H >= threshold; V = H - subtract*S`, or `H*(1 - S)` where hard.

    `x = (a << fraction_bits) + fraction`.

    Args:
        fraction_bits: 0..8.
        decay: 0..4096, in 1/4096.
        threshold: (C,).
        subtract: (C,).
        hard: reset to zero.
        fraction: (C,), 0 .. 2^fraction_bits - 1, as for `PSU`.
    """

    fraction_bits: int
    decay: int
    threshold: Integers
    subtract: Integers
    hard: bool
    fraction: Integers = field(default_factory=none)


@dataclass(frozen=True, eq=False)
class Cuba:
    """Loihi's own LIF with a current that forgets at once, as lava-dl knows it.

    `v = decay*v + (a << 6); S = v > threshold << 6; v = v*(1 - S)`.

    Args:
        decay: 0..4096, in 1/4096; lava-dl's `vDecay` is 4096 - decay.
        threshold: 0..131071, lava-dl's `vThMant`.
    """

    decay: int
    threshold: int


@dataclass(frozen=True, eq=False)
class Relay:
    """No neuron: `y = operator(x)`, or x itself. Whole numbers go on, not spikes.

    `x = (a << fraction_bits) + fraction`.

    Args:
        fraction_bits: 0..8.
        operator: or None.
        fraction: (C,), 0 .. 2^fraction_bits - 1, as for `PSU`.
    """

    fraction_bits: int = 0
    operator: Operator | None = None
    fraction: Integers = field(default_factory=none)


Neuron = PSU | LIF | Cuba | Relay


def operators_of(neuron: Neuron) -> dict[str, Operator]:
    """Role of a state ("V", "E", "R" or "y") -> the operator that keeps it."""
    found: dict[str, Operator | None] = {}
    if isinstance(neuron, Relay):
        found["y"] = neuron.operator
    if isinstance(neuron, PSU):
        found["V"] = neuron.integrate
        if neuron.reset is not None:
            found |= {"E": neuron.estimate, "R": neuron.reset.operator}
    return {role: operator for role, operator in found.items() if operator is not None}


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A synapse and what it feeds.

    Args:
        name: of the machine's layer it came from.
        synapse: int8 weights.
        neuron: what its output goes into.
        shape: features out, (n,) or (C, H, W).
        flatten: whether the features in, (C, H, W), are read as one axis, the last fastest.
    """

    name: str
    synapse: Dense | Conv
    neuron: Neuron
    shape: Shape
    flatten: bool


@dataclass(frozen=True)
class InputCode:
    """How a real input becomes whole numbers: `clip(rint(x / unit), low, high)`.

    Args:
        unit: of one.
        low: at most 0.
        high: at least 0.
    """

    unit: float
    low: int
    high: int

    @property
    def binary(self) -> bool:
        """Whether the input is spikes."""
        return self.unit == 1.0 and (self.low, self.high) == (0, 1)


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A chain of layers, from the input on.

    Args:
        layers: in order.
        input_shape: features as the first layer takes them, (n,) or (C, H, W).
        code: of the input.
        horizon: number of steps it is defined for; None = any number.
        units: (C,), what one is worth in the last layer's output.
    """

    layers: tuple[IntegerLayer, ...]
    input_shape: Shape
    code: InputCode
    horizon: int | None
    units: NDArray[np.float64]

    @property
    def latency(self) -> int:
        """Steps between an input and its output in Lava: one per synapse."""
        return len(self.layers)
