"""The arithmetic of the integer network: every operation, bit by bit, in numpy.

All numbers are whole. States and currents have 24 bits, sign included, and saturate; products are made in 64 bits.
This is Loihi-2-style fixed point: what Lava's CPU simulator is held against, not a chip.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.exporters.integers.network import (
    LIF,
    PSU,
    Cuba,
    Estimator,
    Integers,
    Levels,
    Neuron,
    Operator,
    Relay,
    Reset,
    Sums,
    Table,
    Traces,
    operators_of,
)
from psu_deploy.numerics.sigmoid_table import integer_sigmoid

STATE_MAX = 2**23 - 1
"""Largest 24-bit number; the smallest is its negative."""

UNITY = 4096
"""One, as a decay or a factor: 12 fraction bits."""

_FRACTION = 12
_CUBA_SHIFT = 6

State = dict[str, Integers]


def saturate(x: Integers) -> Integers:
    """`min(max(x, -(2^23 - 1)), 2^23 - 1)`."""
    return np.clip(x, -STATE_MAX, STATE_MAX)


def multiply(x: Integers, factor: Integers | int, shift: Integers | int = _FRACTION) -> Integers:
    """`x*factor / 2^shift`, rounded towards zero as Loihi does: `sign(x*factor) * (|x*factor| >> shift)`."""
    product = x * factor
    rounded: Integers = product >> 63  # -1 where negative: a shift rounds down, so these are raised before it
    rounded &= (1 << np.asarray(shift, np.int64)) - 1
    rounded += product
    rounded >>= shift
    return rounded


def current(a: Integers, neuron: PSU | LIF | Relay) -> Integers:
    """A synapse's output with its fraction bits: `x = saturate((a << fraction_bits) + fraction)`."""
    return saturate((a << neuron.fraction_bits) + neuron.fraction.reshape(-1, *[1] * (a.ndim - 2)))


def advance(operator: Operator, x: Integers, state: State, role: str, step: int) -> Integers:
    """One step of a causal operator; its state, under `role`, is replaced.

    Traces:  `y[m] = saturate(multiply(y[m], decays[m]) + multiply(x, gains[m]))`; result `saturate(sum of y + bias)`.
    Sums:    `sums = pending, then 0; sums[l] = saturate(sums[l] + multiply(x, columns[t, l]))`; result
             `saturate(sums[0] + bias[t])`; pending = `sums[1:]`.

    Args:
        operator: what to advance.
        x: (B, *features).
        state: role -> (B, r or k - 1, *features).
        role: "V", "E", "R" or "y".
        step: from 0, for rows that belong to a step.
    """
    channels = (-1, *[1] * (x.ndim - 2))
    if isinstance(operator, Traces):
        terms = (1, -1, *[1] * (x.ndim - 1))
        decays, gains = operator.decays.reshape(terms), operator.gains.reshape(terms)
        traces = saturate(multiply(state[role], decays) + multiply(x[:, None], gains))
        state[role] = traces
        return saturate(traces.sum(1) + operator.bias.reshape(channels))
    row = step if len(operator.columns) > 1 else 0
    reach = int(np.flatnonzero(operator.columns[row]).max(initial=0)) + 1  # a matrix has nothing beyond its last step
    column = operator.columns[row, :reach].reshape(1, -1, *[1] * (x.ndim - 1))
    sums = np.concatenate([state[role], np.zeros_like(x[:, None])], axis=1)
    sums[:, :reach] = saturate(sums[:, :reach] + multiply(x[:, None], column))
    state[role] = sums[:, 1:]
    return saturate(sums[:, 0] + operator.bias[row].reshape(channels))


def estimated_spike(estimator: Estimator, value: Integers) -> Integers:
    """S', in 1/4096 but for Raw.

    Table:   `z = (E*coefficient) >> shift` (rounded down), then 64 segments of 1/4 from -8 to 8, interpolated by shift
             and mask: `psu_deploy.numerics.sigmoid_table.integer_sigmoid(z)`.
    Levels:  `values[#{k : E >= thresholds[k]}]`.
    Raw:     E.
    """
    channels = (-1, *[1] * (value.ndim - 2))
    if isinstance(estimator, Table):
        argument = (value * estimator.coefficient.reshape(channels)) >> estimator.shift.reshape(channels)
        return integer_sigmoid(argument)
    if isinstance(estimator, Levels):
        thresholds = estimator.thresholds.reshape(len(estimator.thresholds), 1, *channels)
        values: Integers = estimator.values[(value[None] >= thresholds).sum(0)]
        return values
    return value


def advance_reset(reset: Reset, spike: Integers, state: State, step: int) -> Integers:
    """R of this step. `Q = saturate(multiply(S', coefficient, shift))`; with a decay, R as it was is the result, and
    `R = multiply(saturate(R + Q), decay)` is kept; else the operator advances by Q.
    """
    channels = (-1, *[1] * (spike.ndim - 2))
    left = saturate(multiply(spike, reset.coefficient.reshape(channels), reset.shift.reshape(channels)))
    if reset.operator is not None:
        return advance(reset.operator, left, state, "R", step)
    assert reset.decay is not None
    before = state["R"]
    state["R"] = multiply(saturate(before + left), reset.decay)
    return before


def fire(neuron: Neuron, a: Integers, state: State, step: int) -> Integers:
    """One step of a layer of neurons: 0 or 1, or whole numbers from a Relay. The state is replaced.

    PSU:    `x = saturate((a << fraction_bits) + fraction)`; V, E, R by the operators; `S = V - R >= threshold`, in 32
            bits.
    LIF:    x as above; `H = saturate(multiply(V, decay) + x); S = H >= threshold`;
            `V = saturate(H - subtract*S)`, or 0 where it spiked.
    Cuba:   `v = saturate(multiply(v, decay) + (a << 6)); S = v > threshold << 6`; v = 0 where it spiked.
    Relay:  x as above; the operator's result, or x.

    Args:
        neuron: what to advance.
        a: synapse output with bias, (B, *features).
        state: role -> numbers, as `initial_state` makes it.
        step: from 0.
    """
    channels = (-1, *[1] * (a.ndim - 2))
    if isinstance(neuron, PSU):
        return _fire_psu(neuron, a, state, step)
    if isinstance(neuron, LIF):
        potential = saturate(multiply(state["V"], neuron.decay) + current(a, neuron))
        spikes = (potential >= neuron.threshold.reshape(channels)).astype(np.int64)
        after = potential * (1 - spikes) if neuron.hard else potential - neuron.subtract.reshape(channels) * spikes
        state["V"] = saturate(after)
        return spikes
    if isinstance(neuron, Cuba):
        potential = saturate(multiply(state["V"], neuron.decay) + (a << _CUBA_SHIFT))
        spikes = (potential > neuron.threshold << _CUBA_SHIFT).astype(np.int64)
        state["V"] = potential * (1 - spikes)
        return spikes
    x = current(a, neuron)
    return x if neuron.operator is None else advance(neuron.operator, x, state, "y", step)


def _fire_psu(neuron: PSU, a: Integers, state: State, step: int) -> Integers:
    x = current(a, neuron)
    potential = advance(neuron.integrate, x, state, "V", step)
    reset: Any = 0
    if neuron.reset is not None:
        seen = potential if neuron.estimate is None else advance(neuron.estimate, x, state, "E", step)
        reset = advance_reset(neuron.reset, estimated_spike(neuron.estimator, seen), state, step)
    fired: Integers = (potential - reset >= neuron.threshold.reshape(-1, *[1] * (a.ndim - 2))).astype(np.int64)
    return fired


def memory_of(neuron: Neuron) -> dict[str, int | None]:
    """Role -> how many numbers of state per neuron an operator keeps under it; None for one that is no operator's."""
    kept: dict[str, int | None] = {
        role: operator.columns.shape[1] - 1 if isinstance(operator, Sums) else len(operator.decays)
        for role, operator in operators_of(neuron).items()
    }
    if isinstance(neuron, LIF | Cuba):
        kept["V"] = None
    if isinstance(neuron, PSU) and neuron.reset is not None:
        kept.setdefault("R", None)
    return kept


def initial_state(neuron: Neuron, samples: int, features: tuple[int, ...]) -> State:
    """Silence: zeros for every role the neuron has."""
    return {
        role: np.zeros((samples, *([] if kept is None else [kept]), *features), np.int64)
        for role, kept in memory_of(neuron).items()
    }


def state_words(neuron: Neuron) -> int:
    """Numbers of state per neuron."""
    return sum(1 if kept is None else kept for kept in memory_of(neuron).values())
