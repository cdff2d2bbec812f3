"""Neurons of the machine in whole numbers: what every real number is worth, and what it rounds to.

A state of a layer counts in units: `real = integer * unit`, one unit per channel. A synapse's output counts in
`a_unit`; `x = a << fraction_bits` in `a_unit / 2^fraction_bits`; V in that times the gain of its operator, so that the
gain costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import Refusal
from psu_deploy.exporters.integers.fixed_point import STATE_MAX, UNITY
from psu_deploy.exporters.integers.network import (
    LIF,
    PSU,
    Cuba,
    Estimator,
    Integers,
    Levels,
    Operator,
    Raw,
    Relay,
    Reset,
    Sums,
    Table,
    Traces,
)
from psu_deploy.exporters.integers.real_operators import (
    RealDecay,
    RealSums,
    form_of,
    reset_of,
    row_of,
    rows_of,
)
from psu_deploy.machine import ops
from psu_deploy.numerics.sigmoid_table import ARGUMENT_BITS

Units = NDArray[np.float64]

CUBA_FRACTION_BITS = 6
"""Fraction bits of lava's own LIF."""

_CUBA_THRESHOLD = 2**17 - 1
_CUBA_BIAS = 2**12 - 1
_MOST_SHIFT = 30
_STEEPEST = 2 * UNITY
"""Of a sigmoid's coefficient: from there on it is a step."""

_TIE = 1e-9
"""Relative; a threshold this close to a whole number is meant to be it."""


class NotRepresentableError(Exception):
    """A number does not fit at this exponent; another may do."""


@dataclass(frozen=True)
class Scaled:
    """An operator in whole numbers, and what one of its results is worth."""

    operator: Operator
    unit: Units


def psu(neuron: ops.SpikingNeuron, a_unit: Units, fraction_bits: int, fraction: Integers) -> PSU:
    """A neuron of the PSU family.

    Raises:
        NotRepresentableError: if a threshold or factor does not fit.
    """
    x_unit = a_unit / 2**fraction_bits
    integrate = scaled(neuron.integrate, x_unit)
    estimate = None if neuron.estimate is None else scaled(neuron.estimate, x_unit)
    seen = integrate.unit if estimate is None else estimate.unit
    estimator: Estimator = Raw()
    reset = None
    if neuron.reset is not None:
        estimator = row_of(ESTIMATORS, neuron.estimator)(neuron.estimator, seen)
        reset = _reset(neuron.reset, estimator, seen, integrate.unit)
    return PSU(
        fraction_bits,
        integrate.operator,
        None if estimate is None else estimate.operator,
        estimator,
        reset,
        threshold(neuron.threshold / integrate.unit, neuron.fire_on),
        fraction,
    )


def lif(neuron: ops.LIFNeuron, a_unit: Units, fraction_bits: int, fraction: Integers) -> LIF:
    """A leaky integrate-and-fire neuron; V in units of the current it is given."""
    decay, unit = _lif_constants(neuron, a_unit / 2**fraction_bits)
    subtract = _fitting(np.rint(neuron.threshold / unit))
    least = threshold(neuron.threshold / unit, neuron.fire_on)
    return LIF(fraction_bits, decay, least, subtract, neuron.reset == "hard", fraction)


def cuba(neuron: ops.LIFNeuron, a_unit: float, bias: Integers) -> Cuba | None:
    """Loihi's own LIF where it can be that: it resets to zero, and threshold and bias have few bits; else None."""
    decay, unit = _lif_constants(neuron, np.array([a_unit / 2**CUBA_FRACTION_BITS]))
    try:
        least = threshold(neuron.threshold / unit, neuron.fire_on)[0]
    except NotRepresentableError:
        return None
    # It fires above, and its threshold counts in units of the weights. Where nothing leaks V does too: this is exact.
    above = (least - 1) / 2**CUBA_FRACTION_BITS
    mantissa = round(above) if 0 < decay < UNITY else math.floor(above)
    fine = neuron.reset == "hard" and 0 <= mantissa <= _CUBA_THRESHOLD and np.abs(bias).max() <= _CUBA_BIAS
    return Cuba(decay, mantissa) if fine else None


def relay(
    operator: ops.CausalOperator | None, a_unit: Units, fraction_bits: int, fraction: Integers
) -> tuple[Relay, Units]:
    """No neuron: the numbers themselves, or filtered; and what one of them is worth."""
    if operator is None:
        return Relay(fraction_bits, None, fraction), a_unit / 2**fraction_bits
    found = scaled(operator, a_unit / 2**fraction_bits)
    return Relay(fraction_bits, found.operator, fraction), found.unit


def scaled(operator: ops.CausalOperator, x_unit: Units) -> Scaled:
    """A causal operator in whole numbers. Its gain becomes part of the unit, and costs no bits."""
    form = form_of(operator)
    if isinstance(form, RealSums):
        return _sums(form, x_unit)
    unit = x_unit * form.largest
    decays = np.array([whole_decay(float(decay)) for decay in form.decays])
    gains = np.rint(form.gains / form.largest * UNITY).astype(np.int64)
    return Scaled(Traces(decays, gains, _fitting(np.rint(form.bias / unit))), unit)


def decays_of(neuron: Any) -> list[float]:
    """Factors by which states of a neuron, or a filter, of the machine shrink per step; none of what is refused."""
    if type(neuron) is ops.LIFNeuron:
        return [1.0 if neuron.tau is None else 1.0 - 1.0 / neuron.tau]
    forms = [row(part) for part, row in rows_of(neuron) if not isinstance(row, Refusal)]
    return [float(decay) for form in forms for decay in form.decays]


def time_constant_error(neuron: Any) -> float:
    """By how much rounding changes a time constant `1/(1 - decay)`, relative; the largest of the neuron."""
    leaks = [(1.0 - decay, 1.0 - whole_decay(decay) / UNITY) for decay in decays_of(neuron) if decay < 1]
    return max((abs(leak / whole - 1.0) for leak, whole in leaks), default=0.0)


def whole_decay(decay: float) -> int:
    """A decay in 1/4096; only a decay of exactly one stays one."""
    whole = round(decay * UNITY)
    return whole if decay >= 1 else min(whole, UNITY - 1)


def threshold(value: Units, fire_on: str) -> Integers:
    """The least whole number that fires: `>= value`, or `> value`.

    Raises:
        NotRepresentableError: if it has more than 24 bits.
    """
    near = np.rint(value)
    value = np.where(np.abs(value - near) <= _TIE * np.abs(near), near, value)
    return _fitting(np.ceil(value) if fire_on == ">=" else np.floor(value) + 1)


def factor(ratio: Units, limit: int = UNITY) -> tuple[Integers, Integers]:
    """`ratio = coefficient / 2^shift` with as many bits as fit: |coefficient| <= limit, shift 0..30.

    Raises:
        NotRepresentableError: if a ratio is larger than the limit.
    """
    size = np.abs(ratio)
    if (size > limit).any():
        raise NotRepresentableError
    # The exponent of a float, not its logarithm: that is the same number on every processor.
    shift = np.frexp(limit / np.maximum(size, limit / 2.0**_MOST_SHIFT))[1].astype(np.int64) - 1
    return np.rint(ratio * 2.0**shift).astype(np.int64), shift


def _lif_constants(neuron: ops.LIFNeuron, x_unit: Units) -> tuple[int, Units]:
    decay = 1.0 if neuron.tau is None else 1.0 - 1.0 / neuron.tau
    gain = 1.0 / neuron.tau if neuron.tau is not None and neuron.decay_input else 1.0
    return whole_decay(decay), x_unit * gain


def _sums(form: RealSums, x_unit: Units) -> Scaled:
    unit = x_unit * form.largest
    columns = np.rint(form.columns / form.largest * UNITY).astype(np.int64)
    return Scaled(Sums(columns, _fitting(np.rint(form.bias[:, None] / unit))), unit)


def _table(estimator: ops.Sigmoid | ops.SigmoidTable, unit: Units) -> Table:
    return Table(*factor(np.minimum(unit * 2**ARGUMENT_BITS, _STEEPEST), _STEEPEST))


def _levels(estimator: ops.Staircase, unit: Units) -> Levels:
    heights = estimator.offset + estimator.height * np.arange(len(estimator.thresholds) + 1)
    thresholds = threshold(estimator.thresholds[:, None] / unit, ">=")
    return Levels(thresholds, np.rint(heights * UNITY).astype(np.int64))


def _raw(estimator: ops.RawCurrent, unit: Units) -> Raw:
    return Raw()


ESTIMATORS: dict[type, Callable[[Any, Units], Estimator] | Refusal] = {
    ops.Sigmoid: _table,
    ops.RawCurrent: _raw,
    ops.Staircase: _levels,
    ops.SigmoidTable: _table,
}
"""Kind -> it in whole numbers, of (estimator, what one of E is worth)."""


def _reset(operator: ops.CausalOperator, estimator: Estimator, seen: Units, v_unit: Units) -> Reset:
    spike_unit = seen if isinstance(estimator, Raw) else np.full_like(v_unit, 1 / UNITY)
    form = reset_of(operator)
    if isinstance(form, RealDecay):
        return Reset(*factor(form.gain * spike_unit / v_unit), whole_decay(form.decay))
    sums = _sums(form, v_unit / form.largest)
    assert isinstance(sums.operator, Sums)
    return Reset(*factor(form.largest * spike_unit / v_unit), None, sums.operator)


def _fitting(numbers: Units) -> Integers:
    if (np.abs(numbers) > STATE_MAX).any():
        raise NotRepresentableError
    return numbers.astype(np.int64)
