"""How far rounding can move a decision: a running error bound, step by step and layer by layer.

Any floating point evaluation of a sum of n products that are not zero, in any order, errs by at most
`(n + 2) u sum |w||x|`, u being the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
Beside every value we therefore carry a magnitude M (the same network with absolute weights and inputs) and an error
bound E:

    M' = |W| M + |b|,   E' = |W| E + (n + 2) u M'

What comes out of a layer is no larger than its exact value and E, so that M starts again behind every layer.

Spikes are exact, so E starts again from zero behind every neuron layer. A decision whose margin is smaller than its
bound may fall either way in correct arithmetic: a knife-edge decision.

A staircase decides too, at every threshold of its own, and no trace tells how. What it sees is known exactly, so the
steps that an error of size E can turn are counted, and what they are worth is an error of the estimated spike. So does
a table of the sigmoid at every place of its own; it rises, so it is off by at most what lies between its values at the
two ends of the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psu_deploy.machine import StateMachine
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.ops.context import Context, Ranking
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE, Arithmetic, Roundoff
from psu_deploy.machine.reference import Interpreter, Step
from psu_deploy.machine.schedule import walk


class Ties(NamedTuple):
    """What a layer that ranks numbers left open: rounding may exchange two of them.

    Attributes:
        layer: its name.
        open: places in the order that are not certain, over all steps and samples.
        t: time step of the first that is open, from 0.
        sample: index in the batch.
        gap: between the two numbers in exact arithmetic.
        bound: how far rounding can move that gap.
    """

    layer: str
    open: int
    t: int
    sample: int
    gap: float
    bound: float


@dataclass(frozen=True)
class Bounds:
    """Error bounds of one run; infinite where nothing is known.

    Attributes:
        margin: neuron layer -> bound of |computed margin - exact margin|, (T, B, *features).
        outputs: name -> bound of the error of an output, (T, B, *features).
        state: name -> bound of the error of the state after the last step, (B, *shape).
        ties: one per layer that left an order open.
    """

    margin: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]
    ties: tuple[Ties, ...] = ()


def rounding_bounds(
    machine: StateMachine,
    x: Tensor,
    spikes: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    precision: str,
    *,
    arithmetic: Arithmetic = AS_THE_MACHINE,
) -> Bounds:
    """Bound the rounding errors of a run in which every neuron layer emitted the given spikes; see `RunningBounds`."""
    bounds = RunningBounds(machine, x, spikes, state, precision, arithmetic=arithmetic)
    interpreter, now = Interpreter(machine, torch.float64, torch.device("cpu")), state
    for t, row in enumerate(x):
        exact = interpreter.step(row, now, _at(spikes, t))
        bounds.step(exact)
        now = exact.state
    return bounds.all()


def check_kinds(machine: StateMachine) -> None:
    """Raise `UnsupportedModelError` if anything in the machine has no rounding bound."""
    Vocabulary.registered("the rounding bound").check(machine.nodes, "bound the rounding errors of the network")


def _at(rows: Mapping[str, Tensor], t: int) -> dict[str, Tensor]:
    return {name: values[t] for name, values in rows.items()}


def _known(bound: Tensor) -> Tensor:
    """Infinity times zero is no number: nothing is known there."""
    return torch.nan_to_num(bound, nan=torch.inf, posinf=torch.inf)


class RunningBounds:
    """Carries pairs of magnitude and error through the network, step by step, beside the exact run.

    Args:
        machine: the network.
        x: (T, B, *input_shape), float64.
        spikes: neuron layer -> (T, B, *features), float64, what it emitted.
        state: where the run started, name -> (B, *shape), float64.
        precision: of the arithmetic that is judged, "float32" or "float64".
        arithmetic: in which operations the judged run differs from the machine.

    Raises:
        UnsupportedModelError: naming every layer, operator and estimator whose rounding nothing is known about.
    """

    def __init__(
        self,
        machine: StateMachine,
        x: Tensor,
        spikes: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        precision: str,
        *,
        arithmetic: Arithmetic = AS_THE_MACHINE,
    ) -> None:
        check_kinds(machine)
        self._machine, self._x, self._spikes = machine, x, spikes
        self._roundoff = Roundoff(precision, arithmetic)
        self._state = {name: self._roundoff.pair(value) for name, value in state.items()}
        self._inputs = {node.name: node.inputs for node in machine.nodes}
        self._binary = {node.name for node in machine.nodes if machine.binary.issuperset(node.inputs)}
        self._rankings: dict[str, list[tuple[int, Ranking]]] = {}
        self._margins: list[dict[str, Tensor]] = []
        self._outputs: list[Tensor] = []

    def step(self, exact: Step) -> None:
        """Bounds of every margin, and of the output, of the next step, which in exact arithmetic is this one."""
        t = len(self._outputs)
        spikes = _at(self._spikes, t)

        def context(name: str) -> dict[str, Any]:
            own = exact.neurons.get(name)
            return {
                "forced": spikes.get(name),
                "seen": None if own is None else own.estimate,
                "exact": [exact.values[source] for source in self._inputs[name]],
                "value": exact.values[name],
                "binary": name in self._binary,
            }

        pair, tensor = self._roundoff.pair(self._x[t]), self._roundoff.tensor
        with torch.no_grad():
            done = walk(self._machine.schedule, pair, self._state, self._visit, context, tensor)
        self._state = done.state
        for name, own in done.contexts.items():
            if own.ranking is not None:
                self._rankings.setdefault(name, []).append((t, own.ranking))
        margins = {}
        for name in self._machine.spiking:
            ran = done.contexts.get(name)
            bound = done.values[name].chunk(2)[1] if ran is None else ran.margin_error
            assert bound is not None, f"layer {name!r} says nothing about the error of its margin"
            margins[name] = bound
        self._margins.append(margins)
        self._outputs.append(done.values[self._machine.output].chunk(2)[1])

    def _visit(self, layer: Layer, inputs: list[Tensor], context: Context) -> Tensor:
        pair = layer.error(inputs, context, self._roundoff)
        for role, value in context.new_state.items():
            context.new_state[role] = self._roundoff.rounded(value, 1)
        return self._roundoff.clipped(pair, context.value)

    def all(self) -> Bounds:
        """Those of all steps so far, and of the state as it is now; the step counter is exact."""
        margins = {n: _known(torch.stack([step[n] for step in self._margins])) for n in self._machine.spiking}
        outputs = self._machine.split(_known(torch.stack(self._outputs)))
        state = {name: _known(value.chunk(2)[1]) for name, value in self._state.items() if value.ndim}
        found = (_ties(name, rankings) for name, rankings in self._rankings.items())
        return Bounds(margins, outputs, state, tuple(ties for ties in found if ties is not None))


def _ties(layer: str, rankings: Sequence[tuple[int, Ranking]]) -> Ties | None:
    left_open = [(t, ranking) for t, ranking in rankings if ranking.open.any()]
    if not left_open:
        return None
    t, first = left_open[0]
    at = tuple(first.open.nonzero()[0].tolist())
    count = sum(int(ranking.open.sum()) for _, ranking in left_open)
    return Ties(layer, count, t, at[0], float(first.gap[at]), float(first.bound[at]))


__all__ = ["AS_THE_MACHINE", "Arithmetic", "Bounds", "RunningBounds", "Ties", "check_kinds", "rounding_bounds"]
