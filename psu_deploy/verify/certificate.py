"""Is a run right on its own? Every decision and output of a trace, judged by exact arithmetic.

The reference machine is run in float64 on the same input, with every neuron layer emitting the very spikes the
trace holds. So each decision is judged given its own past, and one knife-edge decision cannot make everything behind
it look wrong, nor hide a real error behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops import Neuron
from psu_deploy.machine.ops.fields import Array
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE, Arithmetic
from psu_deploy.machine.schedule import OUTPUT
from psu_deploy.verify.alignment import aligned, check_lookahead, drained, in_machine_time
from psu_deploy.verify.own_margins import wrong_decisions
from psu_deploy.verify.rounding import Bounds, RunningBounds


class Decision(NamedTuple):
    """One spike/no-spike comparison that came out differently.

    Attributes:
        layer: name of the neuron layer.
        t: time step, from 0.
        sample: index in the batch.
        neuron: index in the layer's features.
        margin: V - R - threshold in exact arithmetic, given the spikes before it.
        bound: how far rounding can move that margin.
    """

    layer: str
    t: int
    sample: int
    neuron: tuple[int, ...]
    margin: float
    bound: float

    @property
    def knife_edge(self) -> bool:
        """Whether rounding alone can turn this decision."""
        return abs(self.margin) <= self.bound


@dataclass(frozen=True)
class Certificate:
    """How one trace stands against exact arithmetic.

    Attributes:
        disputed: decisions that exact arithmetic, given the trace's own earlier spikes, would make differently.
        exact: the reference trace with those spikes, float64.
        output_error: |output - exact output|, largest.
        wrong: everything that is further from the exact value than its rounding bound, in words: outputs, V, R, the
            state after the last step.
        bounds: the rounding bounds used.
    """

    disputed: tuple[Decision, ...]
    exact: Trace
    output_error: float
    wrong: tuple[str, ...]
    bounds: Bounds

    @property
    def ok(self) -> bool:
        """Whether rounding alone explains every dispute and every number."""
        return not self.wrong and all(decision.knife_edge for decision in self.disputed)


class Judge:
    """Judges runs of one machine on one input by exact arithmetic. Runs with the same spikes share the arithmetic.

    Args:
        machine: the network that was run.
        x: its input, (T, B, *input_shape), without the silent steps that a machine with latency is fed at the end.
        state: where the runs started; None = the initial state.
        precision: of the arithmetic that made the traces, "float32" or "float64".
        arithmetic: in which operations the runs differ from the machine.

    Raises:
        UnsupportedModelError: if a layer looks ahead at spikes.
    """

    def __init__(
        self,
        machine: StateMachine,
        x: Any,
        state: Mapping[str, Any] | None = None,
        precision: str = "float32",
        *,
        arithmetic: Arithmetic = AS_THE_MACHINE,
    ) -> None:
        check_lookahead(machine)
        self._machine = machine
        self._x = _exact(x)
        start = machine.initial_state(self._x.shape[1], "float64") if state is None else state
        spec = machine.state_spec
        self._state = {n: _exact(v) if spec[n].batched else torch.as_tensor(v) for n, v in start.items()}
        self._precision = precision
        self._engine = arithmetic
        self._slopes = {n.name: n.layer.potential_slope for n in machine.nodes if isinstance(n.layer, Neuron)}
        self._known: tuple[dict[str, Tensor], Trace, Bounds] | None = None

    def certify(self, trace: Trace) -> Certificate:
        """Judge a trace: spikes of every neuron layer, and the output of the last step(s); aligned to x."""
        spikes = {name: _exact(trace.spikes[name]) for name in self._machine.spiking}
        exact, bounds = self._arithmetic(spikes)
        disputed = tuple(d for name in self._machine.spiking for d in _disputed(name, spikes[name], exact, bounds))
        errors = {name: _off(_exact(y), exact.outputs[name]) for name, y in trace.outputs.items()}
        wrong = [p for name, error in errors.items() for p in _late(_called(name), error, bounds.outputs[name])]
        wrong += _wrong_inside(trace, exact, bounds, self._slopes)
        wrong += wrong_decisions(self._machine, trace, self._precision, self._engine)
        wrong += _not_binary(spikes)
        return Certificate(disputed, exact, max(float(e.max()) for e in errors.values()), tuple(wrong), bounds)

    def _arithmetic(self, spikes: dict[str, Tensor]) -> tuple[Trace, Bounds]:
        if self._known is None or not all(torch.equal(spikes[name], rows) for name, rows in self._known[0].items()):
            machine, steps = self._machine, len(self._x)
            x, late = drained(machine, self._x), in_machine_time(machine, spikes)
            bounds = RunningBounds(machine, x, late, self._state, self._precision, arithmetic=self._engine)
            exact = machine.trace(x, self._state, spikes=late, watch=bounds.step)
            self._known = (spikes, aligned(machine, exact, steps), _aligned(machine, bounds.all(), steps))
        return self._known[1], self._known[2]


def certify(
    machine: StateMachine,
    x: Any,
    trace: Trace,
    state: Mapping[str, Any] | None = None,
    precision: str = "float32",
    *,
    arithmetic: Arithmetic = AS_THE_MACHINE,
) -> Certificate:
    """Judge one trace by exact arithmetic; see `Judge`."""
    return Judge(machine, x, state, precision, arithmetic=arithmetic).certify(trace)


def _wrong_inside(trace: Trace, exact: Trace, bounds: Bounds, slopes: Mapping[str, float]) -> list[str]:
    """V and R of every layer, and the last state, as far as the trace tells them."""
    found = []
    seen = ((trace.potential, exact.potential, "V"), (trace.reset, exact.reset, "R"), (trace.margin, exact.margin, ""))
    for values, expected, what in seen:
        for name, value in values.items():
            # a margin's bound covers V and R, of which it is made
            bound = bounds.margin[name] * (slopes[name] if what else 1.0)
            called = f"{what or 'the margin'} of layer {name!r}"
            found += _late(called, (_exact(value) - expected[name]).abs(), bound)
    for name, bound in bounds.state.items():
        if name in trace.state:
            found += _beyond(f"state {name!r}", (_exact(trace.state[name]) - exact.state[name]).abs(), bound)
    return found


def _not_binary(spikes: Mapping[str, Tensor]) -> list[str]:
    """A simulator may spike several times in one step; a machine never does."""
    binary = {name: bool(((s == 0) | (s == 1)).all()) for name, s in spikes.items()}
    return [f"spikes of layer {name!r} are not all 0 or 1" for name, fine in binary.items() if not fine]


def _off(given: Tensor, exact: Tensor) -> Tensor:
    """How far an output is off, at every step, or at the last only where no other is given."""
    return (given - exact[-len(given) :]).abs()


def _called(output: str) -> str:
    return "an output" if output == OUTPUT else f"the output {output!r}"


def _late(what: str, error: Tensor, bound: Tensor) -> list[str]:
    """As `_beyond`, of rows (T, B, *features); those of the last steps where there are fewer."""
    bound, before = bound[-len(error) :], len(bound) - len(error)
    steps = ~(error <= bound).flatten(1).all(1)
    return [f"{said}, first at step {before + int(steps.int().argmax())}" for said in _beyond(what, error, bound)]


def _beyond(what: str, error: Tensor, bound: Tensor) -> list[str]:
    if bool((error <= bound).all()):
        return []
    return [f"{what} is off by {float(error.max()):.3g}, more than rounding explains"]


def _aligned(machine: StateMachine, bounds: Bounds, steps: int) -> Bounds:
    margin = {name: rows[machine.latencies[name] :][:steps] for name, rows in bounds.margin.items()}
    # A neuron that is not as late as the output runs on while the last answers are due; what it emits then is not in an
    # aligned trace, so the state it leaves behind cannot be judged.
    runs_on = any(machine.latencies[name] < machine.latency for name in machine.spiking)
    state = {} if runs_on else bounds.state
    outputs = {name: rows[machine.latency :] for name, rows in bounds.outputs.items()}
    ties = tuple(one._replace(t=one.t - machine.latencies[one.layer]) for one in bounds.ties)
    return replace(bounds, margin=margin, outputs=outputs, state=state, ties=ties)


def _disputed(name: str, spikes: Tensor, exact: Trace, bounds: Bounds) -> list[Decision]:
    margin = exact.margin[name]
    where = torch.nonzero((exact.spikes[name] != 0) != (spikes != 0))
    return [
        Decision(name, t, b, tuple(neuron), float(margin[t, b, *neuron]), float(bounds.margin[name][t, b, *neuron]))
        for t, b, *neuron in where.tolist()
    ]


def _exact(x: Any) -> Tensor:
    values: Array = np.asarray(x.cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    return torch.from_numpy(values.copy())
