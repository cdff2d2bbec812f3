"""How far rounding can move a decision: a running error bound, step by step and layer by layer.

Any floating point evaluation of a sum of n products that are not zero, in any order, errs by at most
`(n + 2) u sum |w||x|`, u being the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
Beside every value we therefore carry a magnitude M (the same network with absolute weights and inputs) and an error
bound E:

    M' = |W| M + |b|,   E' = |W| E + (n + 2) u M'

Spikes are exact, so E starts again from zero behind every neuron layer. A decision whose margin is smaller than its
bound may fall either way in correct arithmetic: a knife-edge decision.

A staircase decides too, at every threshold of its own, and no trace tells how. What it sees is known exactly, so the
steps that an error of size E can turn are counted, and what they are worth is an error of the estimated spike. So does
a table of the sigmoid at every place of its own; it rises, so it is off by at most what lies between its values at the
two ends of the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary
from psu_deploy.machine.reference import Moment
from psu_deploy.verify.layer_bounds import LAYERS, OPERATORS
from psu_deploy.verify.neuron_bounds import ESTIMATORS, NEURONS, Given
from psu_deploy.verify.roundoff import AS_THE_MACHINE, Arithmetic, Roundoff


@dataclass(frozen=True)
class Bounds:
    """Error bounds of one run; infinite where nothing is known.

    Attributes:
        margin: neuron layer -> bound of |computed margin - exact margin|, (T, B, *features).
        output: bound of the output's error, (T, B, *features).
        state: name -> bound of the error of the state after the last step, (B, *shape).
    """

    margin: dict[str, Tensor]
    output: Tensor
    state: dict[str, Tensor]


def rounding_bounds(
    machine: StateMachine,
    x: Tensor,
    spikes: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    precision: str,
    *,
    arithmetic: Arithmetic = AS_THE_MACHINE,
    estimate: Mapping[str, Tensor] | None = None,
) -> Bounds:
    """Bound the rounding errors of a run in which every neuron layer emitted the given spikes.

    Args:
        machine: the network.
        x: (T, B, *input_shape), float64.
        spikes: neuron layer -> (T, B, *features), float64.
        state: where the run started, name -> (B, *shape), float64.
        precision: of the arithmetic that is judged, "float32" or "float64".
        arithmetic: in which operations the judged run differs from the machine.
        estimate: E of every neuron layer in exact arithmetic, given these spikes, as in `Trace`; None = run the machine
            for it, where it matters.

    Raises:
        UnsupportedModelError: naming every layer, operator and estimator whose rounding nothing is known about.
    """
    check_kinds(machine)
    if estimate is None:
        estimate = machine.trace(x, state, spikes=spikes).estimate if _looks_at_estimate(machine) else {}
    walk = _Walk(machine, Roundoff(precision, arithmetic), state)
    steps = [walk.step(x_t, _at(spikes, t), _at(estimate, t)) for t, x_t in enumerate(x)]
    margin = {name: _known(torch.stack([step[0][name] for step in steps])) for name in machine.spiking}
    return Bounds(margin, _known(torch.stack([step[1] for step in steps])), walk.state_bounds())


VOCABULARY = Vocabulary("the rounding bound", {**LAYERS, **NEURONS}, OPERATORS, ESTIMATORS)
"""What has a bound."""


def check_kinds(machine: StateMachine) -> None:
    """Raise `UnsupportedModelError` if anything in the machine has no rounding bound."""
    VOCABULARY.check(machine.nodes, "bound the rounding errors of the network")


def _at(rows: Mapping[str, Tensor], t: int) -> dict[str, Tensor]:
    return {name: values[t] for name, values in rows.items()}


def _looks_at_estimate(machine: StateMachine) -> bool:
    stepped = ops.Staircase | ops.SigmoidTable
    return any(isinstance(getattr(node.layer, "estimator", None), stepped) for node in machine.nodes)


def _known(bound: Tensor) -> Tensor:
    """Infinity times zero is no number: nothing is known there."""
    return torch.nan_to_num(bound, nan=torch.inf, posinf=torch.inf)


class _Walk:
    """Carries pairs of magnitude and error through the network, step by step."""

    def __init__(self, machine: StateMachine, roundoff: Roundoff, state: Mapping[str, Tensor]) -> None:
        self._machine = machine
        self._roundoff = roundoff
        self._state = {name: roundoff.pair(value) for name, value in state.items()}

    def step(
        self, x: Tensor, spikes: Mapping[str, Tensor], estimate: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Bounds of every margin, and of the output."""
        machine, now = self._machine, int(self._state.get("step", torch.zeros(())))
        values = {"x": self._roundoff.pair(x)}
        margins: dict[str, Tensor] = {}
        for node in machine.nodes:
            local = now - machine.starts[node.name]
            if local < 0 or (local > 0 and node.name in machine.once):
                values[node.name] = values["x"].new_zeros(2 * len(x), *machine.shapes[node.name])
                if isinstance(node.layer, ops.Neuron):
                    margins[node.name] = values[node.name].chunk(2)[1]
                continue
            own = {role: self._state[f"{node.name}.{role}"] for role in machine.roles(node.name)}
            moment = Moment(self._roundoff.tensor, own, local)
            inputs = [values[name] for name in node.inputs]
            if isinstance(node.layer, ops.Neuron):
                given = Given(node.name, inputs[0], spikes[node.name], estimate.get(node.name), moment)
                margins[node.name] = NEURONS[type(node.layer)](self._roundoff, node.layer, given)
                values[node.name] = self._roundoff.pair(spikes[node.name])
            else:
                values[node.name] = LAYERS[type(node.layer)](self._roundoff, node.layer, inputs, moment)
            self._keep(node, moment)
        if "step" in self._state:
            self._state["step"] = self._state["step"] + 1
        return margins, values[machine.output].chunk(2)[1]

    def _keep(self, node: Node, moment: Moment) -> None:
        for role, value in moment.new_state.items():
            self._state[f"{node.name}.{role}"] = self._roundoff.rounded(value, 1)

    def state_bounds(self) -> dict[str, Tensor]:
        """Bounds of the state as it is now; the step counter is exact."""
        return {name: _known(value.chunk(2)[1]) for name, value in self._state.items() if value.ndim}


__all__ = ["AS_THE_MACHINE", "Arithmetic", "Bounds", "check_kinds", "rounding_bounds"]
