"""Neurons -> primitives.

A neuron of the PSU family becomes one path, which is what readers that walk depth first need:

    memory -> levels -> staircase -> estimate -> reset -> minus_reset -> ... -> spikes

`memory` holds the states of `integrate` and of a separate `estimate` side by side. With `Q[t] = decay*Q[t-1] + g*S'[t]`
the reset is `R[t] = Q[t] - g*S'[t]`, so no delay is needed: `V + g*S' - Q >= threshold` fires.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.network_builder import NetworkBuilder, rule_for
from psu_deploy.exporters.nir.primitives import Fire, Leak, Step, Taps, mix, scale
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array

_UNPREPARED = (
    "a learned T x T matrix varies with time, and NIR's primitives do not",
    'psu_deploy.prepare(model, target="nir", exponentials=4), fine-tune, capture again',
)
_SIGMOID = (
    "NIR has no sigmoid",
    'psu_deploy.prepare(model, target="nir"), fine-tune, capture again; or export with allow_approximation=True',
)

_TABLE = (
    "NIR has no table of the sigmoid",
    'psu_deploy.prepare(model, target="nir") makes a staircase of it; fine-tune, capture again',
)


def lower_spiking_neuron(neuron: ops.SpikingNeuron, source: str, builder: NetworkBuilder) -> str:
    """Vertices of a neuron of the PSU family.

    Returns:
        Name of the vertex that emits the spikes.
    """
    memory = _Memory(neuron, source, builder)
    if neuron.reset is None:
        potential = memory.potential()
        return builder.add("spikes", Step((neuron.threshold,), neuron.fire_on), potential)
    gain, decay = rule_for(RESETS, neuron.reset)(neuron.reset)
    estimate = memory.estimate(neuron.estimator, gain)
    reset = builder.add("reset", Leak((1.0,), (decay,)), estimate)
    minus_reset = builder.add("minus_reset", scale(-1.0), reset)
    summed = memory.added_to_potential(estimate, minus_reset)
    return builder.add("spikes", Step((neuron.threshold,), neuron.fire_on), *summed)


def lower_lif(neuron: ops.LIFNeuron, source: str, builder: NetworkBuilder) -> str:
    """Vertices of an LIF neuron: NIR's own where it resets to zero, a loop through the spikes where it subtracts."""
    if neuron.reset == "hard":
        fire = Fire(neuron.tau, neuron.decay_input, neuron.threshold, neuron.fire_on)
        return builder.add("spikes", fire, source)
    decay = 1.0 if neuron.tau is None else 1.0 - 1.0 / neuron.tau
    drive = 1.0 / neuron.tau if neuron.tau is not None and neuron.decay_input else 1.0
    source = source if drive == 1.0 else builder.add("drive", scale(drive), source)
    back = builder.name("subtract")
    potential = builder.add("potential", Leak((1.0,), (decay,)), source, feedback=(back,) if decay else ())
    spikes = builder.add("spikes", Step((neuron.threshold,), neuron.fire_on), potential)
    if decay:
        builder.add("subtract", scale(-decay * neuron.threshold), spikes)
    return spikes


def operator_output(operator: ops.CausalOperator, source: str, builder: NetworkBuilder) -> str:
    """Vertices of one causal operator on its own."""
    return rule_for(_ALONE, operator)(operator, source, builder)


def _strict_leak_alone(operator: ops.StrictLeak, source: str, builder: NetworkBuilder) -> str:
    """A leak less the input of the step."""
    leak = builder.add("leak", Leak((operator.gain,), (operator.decay,)), source)
    minus = builder.add("minus_input", scale(-operator.gain), source)
    return builder.add("", scale(1.0), leak, minus)


def _read_off_states(operator: ops.CausalOperator, source: str, builder: NetworkBuilder) -> str:
    states = _states((operator,))
    return builder.add("", mix(*_row(states.reads[0])), states.add(source, builder))


def _strict_leak(operator: ops.StrictLeak) -> tuple[float, float]:
    """Gain and decay."""
    _check_decay(operator.decay)
    return operator.gain, operator.decay


@dataclass(frozen=True)
class _Read:
    """`weights . copies + bias`: how an operator's result is read off the states."""

    weights: Array
    bias: float

    @property
    def plain(self) -> bool:
        """Whether it is the state itself."""
        return self.bias == 0 and self.weights.tolist() == [1.0]


@dataclass(frozen=True)
class _States:
    """The states of some operators of one input, in one vertex."""

    primitive: Leak | Taps
    reads: tuple[_Read, ...]

    @property
    def copies(self) -> int:
        return len(self.primitive.decays) if isinstance(self.primitive, Leak) else self.primitive.order

    def add(self, source: str, builder: NetworkBuilder) -> str:
        """The vertex; the source itself where nothing is remembered."""
        one = isinstance(self.primitive, Leak) and (self.primitive.gains, self.primitive.decays) == ((1.0,), (0.0,))
        nothing = one or (isinstance(self.primitive, Taps) and self.primitive.order == 1)
        return source if nothing else builder.add("memory", self.primitive, source)


class _Memory:
    """What a neuron remembers of its input, and what is read off it."""

    def __init__(self, neuron: ops.SpikingNeuron, source: str, builder: NetworkBuilder) -> None:
        self._builder = builder
        shared = neuron.estimate is None
        found = (neuron.integrate,) if shared or neuron.estimate is None else (neuron.integrate, neuron.estimate)
        self._states = _states(found)
        self._potential, self._estimate = self._states.reads[0], self._states.reads[-1]
        self._vertex = self._states.add(source, builder)

    def potential(self) -> str:
        """The vertex that is V."""
        if self._potential.plain:
            return self._vertex
        return self._builder.add("potential", mix(*_row(self._potential)), self._vertex)

    def estimate(self, estimator: ops.Estimator, gain: float) -> str:
        """The vertex that is `gain * S'`."""
        return rule_for(ESTIMATORS, estimator)(self, estimator, gain)

    def raw(self, _: ops.RawCurrent, gain: float) -> str:
        """What is seen itself."""
        read = self._estimate
        return self._builder.add("estimate", mix([gain * read.weights], [gain * read.bias]), self._vertex)

    def stairs(self, estimator: ops.Staircase, gain: float) -> str:
        """One copy of what is seen per threshold, and a count of those that are reached."""
        read, builder, count = self._estimate, self._builder, len(estimator.thresholds)
        levels = mix(np.tile(read.weights, (count, 1)), np.full(count, read.bias))
        wide = builder.add("levels", levels, self._vertex)
        stairs = builder.add("staircase", Step(tuple(estimator.thresholds.tolist()), ">="), wide)
        return builder.add("estimate", mix([[gain * estimator.height] * count], [gain * estimator.offset]), stairs)

    def added_to_potential(self, *terms: str) -> tuple[str, ...]:
        """Vertices whose sum is V and the terms.

        Where V is read off several states, the terms join the states in front of what reads them, because a reader
        that walks depth first meets a sum only once.
        """
        weights = self._potential.weights
        if self._potential.plain or not weights.any():
            return (self.potential(), *terms)
        largest = int(np.abs(weights).argmax())
        share = np.zeros((self._states.copies, 1))
        share[largest] = 1.0 / weights[largest]
        joined = self._builder.add("joined", mix(share), *terms)
        return (self._builder.add("margin", mix(*_row(self._potential)), self._vertex, joined),)


def _row(read: _Read) -> tuple[Array, Array]:
    return read.weights[None, :], np.array([read.bias])


@dataclass(frozen=True)
class _Traces:
    """An operator that is a sum of leaks and a constant."""

    gains: tuple[float, ...]
    decays: tuple[float, ...]
    bias: float = 0.0


@dataclass(frozen=True, eq=False)
class _Line:
    """An operator that looks at the last inputs, the newest first."""

    weights: Array
    bias: float


_NOW = _Traces((1.0,), (0.0,))
"""The input itself, which a leak that forgets at once is, and the first place of any line."""


def _identity(operator: ops.Identity) -> _Traces:
    return _NOW


def _leak(operator: ops.Leak) -> _Traces:
    _check_decay(operator.decay)
    return _Traces((operator.gain,), (operator.decay,))


def _exponentials(operator: ops.Exponentials) -> _Traces:
    for decay in operator.decays:
        _check_decay(float(decay))
    return _Traces(tuple(operator.gains.tolist()), tuple(operator.decays.tolist()), operator.bias)


def _window(operator: ops.Window) -> _Line:
    return _Line(operator.columns[0], float(operator.bias[0]))


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise Refusal(f"a decay of {decay:g} per step is not a leak", "keep decays within [0, 1]")


def _states(found: tuple[ops.CausalOperator, ...]) -> _States:
    """One vertex that holds the states of all operators, and how each is read off it."""
    if any(operator.horizon is not None for operator in found):
        raise Refusal(*_UNPREPARED)
    forms = [rule_for(OPERATORS, operator)(operator) for operator in found]
    if any(isinstance(form, _Line) for form in forms):
        return _one_line(found, forms)
    traces = [form for form in forms if isinstance(form, _Traces)]
    gains = [gain for form in traces for gain in form.gains]
    decays = [decay for form in traces for decay in form.decays]
    reads, end = [], 0
    for form in traces:
        start, end = end, end + len(form.gains)
        weights = np.zeros(len(gains))
        weights[start:end] = 1.0
        reads.append(_Read(weights, float(form.bias)))
    return _States(Leak(tuple(gains), tuple(decays)), tuple(reads))


def _one_line(found: tuple[ops.CausalOperator, ...], forms: Sequence[_Traces | _Line]) -> _States:
    order = max(len(form.weights) if isinstance(form, _Line) else 1 for form in forms)
    reads = []
    for operator, form in zip(found, forms, strict=True):
        weights = np.zeros(order)
        if isinstance(form, _Line):
            weights[: len(form.weights)] = form.weights
        elif form is _NOW:
            weights[0] = 1.0
        else:
            raise Refusal(
                f"a window beside {type(operator).__name__} in one neuron", "use the same kind of operator for both"
            )
        reads.append(_Read(weights, form.bias))
    return _States(Taps(order), tuple(reads))


OPERATORS: dict[type, Callable[[Any], _Traces | _Line] | Refusal] = {
    ops.Identity: _identity,
    ops.Leak: _leak,
    ops.StrictLeak: Refusal("StrictLeak in this place", "use a leak, exponentials or a sliding window"),
    ops.PartialSums: Refusal(*_UNPREPARED),
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}
"""Kind -> what the integration or the estimate of a neuron is along it; what is not here was refused before."""

RESETS: dict[type, Callable[[Any], tuple[float, float]] | Refusal] = {
    ops.StrictLeak: _strict_leak,
    **{
        kind: Refusal(f"a reset along {kind.__name__}", "use the strict leak of the PSU family")
        for kind in OPERATORS
        if kind is not ops.StrictLeak
    },
}
"""Kind -> gain and decay of a neuron's reset along it."""

_ALONE: dict[type, Callable[[Any, str, NetworkBuilder], str] | Refusal] = {
    **dict.fromkeys(OPERATORS, _read_off_states),
    ops.StrictLeak: _strict_leak_alone,
}
"""Kind -> vertices of it outside a neuron."""

ESTIMATORS: dict[type, Callable[[_Memory, Any, float], str] | Refusal] = {
    ops.Sigmoid: Refusal(*_SIGMOID),
    ops.RawCurrent: _Memory.raw,
    ops.Staircase: _Memory.stairs,
    ops.SigmoidTable: Refusal(*_TABLE),
}
"""Kind -> the vertex that is `gain * S'`."""
