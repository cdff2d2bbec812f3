"""Interval arithmetic over the integer network: how large every number can become, whatever the input.

An interval is a pair of arrays (low, high), one entry per channel, low <= 0 <= high. Rounding is towards zero, so
products in real numbers bound those in whole numbers. A state that grows for ever has a bound far beyond 24 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.exporters.integers.fixed_point import STATE_MAX, UNITY
from psu_deploy.exporters.integers.network import (
    LIF,
    PSU,
    Conv,
    Cuba,
    Dense,
    Levels,
    Neuron,
    Operator,
    Relay,
    Reset,
    Sums,
    Table,
)

Bound = NDArray[np.float64]
Interval = tuple[Bound, Bound]

_FOR_EVER = 2.0**100
"""A sum without end; infinity times nothing would be no number."""

SPIKES: tuple[float, float] = (0.0, 1.0)


def synapse_interval(synapse: Dense | Conv, low: float, high: float) -> Interval:
    """Of `W x + b`, every x between low <= 0 and high >= 0, and zero where a convolution pads."""
    rows = synapse.weight.reshape(len(synapse.weight), -1)
    positive, negative = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    least, most = positive * low + negative * high, positive * high + negative * low
    return _with_zero(least + np.minimum(synapse.bias, 0), most + np.maximum(synapse.bias, 0))


def neuron_intervals(neuron: Neuron, a: Interval, steps: int | None) -> dict[str, Interval]:
    """Name -> interval of everything a neuron keeps in 24 bits.

    Args:
        neuron: what keeps it.
        a: of the synapse's output.
        steps: T; None = any number.
    """
    if isinstance(neuron, Cuba):
        return {"v": _scaled(_scaled(a, 64.0), _geometric(np.array([neuron.decay]), steps)[0])}
    scaled = _scaled(a, float(2**neuron.fraction_bits))
    x = scaled[0], scaled[1] + neuron.fraction
    if isinstance(neuron, LIF):
        return _lif(neuron, x, steps)
    if not isinstance(neuron, PSU):
        return {"x": x} | ({} if neuron.operator is None else _operator("y", neuron.operator, x, steps))
    found = {"x": x, "threshold": (neuron.threshold.astype(float),) * 2, **_operator("V", neuron.integrate, x, steps)}
    if neuron.reset is not None:
        if neuron.estimate is not None:
            found |= _operator("E", neuron.estimate, x, steps)
        spike = _estimated(neuron.estimator, found.get("E", found["V"]))
        found |= _reset(neuron.reset, spike, steps)
    return found


def sent_interval(neuron: Neuron, intervals: dict[str, Interval]) -> tuple[float, float]:
    """Of what a layer sends: spikes, or a Relay's numbers.

    Args:
        neuron: what sends it.
        intervals: as `neuron_intervals` gives them.
    """
    if not isinstance(neuron, Relay):
        return SPIKES
    low, high = intervals["x" if neuron.operator is None else "y"]
    return float(low.min()), float(high.max())


def largest(interval: Interval) -> float:
    """The largest magnitude in it."""
    return float(max(np.abs(interval[0]).max(), np.abs(interval[1]).max()))


def fits(intervals: dict[str, Interval]) -> bool:
    """Whether nothing can leave 24 bits."""
    return all(largest(interval) <= STATE_MAX for interval in intervals.values())


def _lif(neuron: LIF, x: Interval, steps: int | None) -> dict[str, Interval]:
    growth = _geometric(np.array([neuron.decay]), steps)[0]
    pushed = np.maximum(-neuron.subtract, 0)  # a spike at a negative threshold raises V
    raised = (x[0], x[1] + pushed)
    thresholds = np.maximum(np.abs(neuron.threshold), np.abs(neuron.subtract)).astype(float)
    return {"x": x, "V": _scaled(raised, growth), "threshold": (-thresholds, thresholds)}


def _operator(role: str, operator: Operator, x: Interval, steps: int | None) -> dict[str, Interval]:
    if isinstance(operator, Sums):
        positive, negative = _column_sums(operator)
        low, high = positive * x[0] + negative * x[1], positive * x[1] + negative * x[0]
        least, most = operator.bias.min(0), operator.bias.max(0)
    else:
        gains, growth = operator.gains / UNITY, _geometric(operator.decays, steps)
        terms = [_scaled(x, float(gain) * float(factor)) for gain, factor in zip(gains, growth, strict=True)]
        low, high = (np.sum([term[end] for term in terms], axis=0) for end in (0, 1))
        least = most = operator.bias
    inside = _with_zero(low, high)
    return {f"{role} before bias": inside, role: _with_zero(low + np.minimum(least, 0), high + np.maximum(most, 0))}


def _column_sums(operator: Sums) -> tuple[float, float]:
    """Largest sum of positive and of negative coefficients that meet in one result."""
    columns = operator.columns / UNITY
    if len(columns) == 1:
        return float(np.maximum(columns, 0).sum()), float(np.minimum(columns, 0).sum())
    rows, order = columns.shape
    meet = np.zeros((2, rows + order))
    for t, column in enumerate(columns):
        meet[0, t : t + order] += np.maximum(column, 0)
        meet[1, t : t + order] += np.minimum(column, 0)
    return float(meet[0, :rows].max()), float(meet[1, :rows].min())


def _estimated(estimator: Any, seen: Interval) -> Interval:
    if isinstance(estimator, Table):
        return np.zeros(1), np.full(1, float(UNITY))
    if isinstance(estimator, Levels):
        return _with_zero(estimator.values.min(keepdims=True), estimator.values.max(keepdims=True))
    return seen


def _reset(reset: Reset, spike: Interval, steps: int | None) -> dict[str, Interval]:
    factor = reset.coefficient / 2.0**reset.shift
    low, high = np.minimum(factor * spike[0], factor * spike[1]), np.maximum(factor * spike[0], factor * spike[1])
    left = _with_zero(low, high)
    if reset.operator is not None:
        return {"Q": left, **_operator("R", reset.operator, left, steps)}
    assert reset.decay is not None
    growth = _geometric(np.array([reset.decay]), steps)[0]
    return {"Q": left, "R": _scaled(left, growth)}


def _geometric(decays: NDArray[np.int64], steps: int | None) -> Bound:
    """`sum over k < T of decay^k`."""
    shares = decays / UNITY
    if steps is None:
        return np.array([_FOR_EVER if share >= 1 else 1 / (1 - share) for share in shares])
    return np.array([float(steps) if share >= 1 else (1 - share**steps) / (1 - share) for share in shares])


def _scaled(interval: Interval, factor: float) -> Interval:
    ends = [np.zeros_like(end) if factor == 0 else np.where(end == 0, 0.0, end * factor) for end in interval]
    return np.minimum(*ends), np.maximum(*ends)


def _with_zero(low: Any, high: Any) -> Interval:
    return np.minimum(low, 0).astype(float), np.maximum(high, 0).astype(float)
