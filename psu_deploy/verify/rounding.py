"""How far rounding can move a decision: a running error bound, step by step and layer by layer.

Any floating point evaluation of a sum of n products that are not zero, in any order, errs by at most
`(n + 2) u sum |w||x|`, u being the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
Beside every value we therefore carry a magnitude M (the same network with absolute weights and inputs) and an error
bound E:

    M' = |W| M + |b|,   E' = |W| E + (n + 2) u M'

Spikes are exact, so E starts again from zero behind every neuron layer. A decision whose margin is smaller than its
bound may fall either way in correct arithmetic: a knife-edge decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.machine import StateMachine, operators, ops
from psu_deploy.machine.fields import Array
from psu_deploy.machine.reference import Moment, advance, evaluate

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
"""Half the distance from 1 to the next number."""

UNDERFLOW = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""Below it numbers lose bits, or become zero where the hardware flushes them."""

SAFETY = 2.0
"""For what a library does inside one operation: BatchNorm, for one, makes its scale and shift on the fly."""

SIGMOID_ERROR = 8.0
"""Error of a sigmoid in units of u; libraries reach 1 to 4."""


@dataclass(frozen=True)
class Bounds:
    """Error bounds of one run.

    Attributes:
        margin: neuron layer -> bound of |computed margin - exact margin|, (T, B, *features).
        output: bound of the output's error, (T, B, *features).
        state: name -> bound of the error of the state after the last step, (B, *shape).
    """

    margin: dict[str, Tensor]
    output: Tensor
    state: dict[str, Tensor]


def rounding_bounds(
    machine: StateMachine, x: Tensor, spikes: Mapping[str, Tensor], state: Mapping[str, Tensor], precision: str
) -> Bounds:
    """Bound the rounding errors of a run in which every neuron layer emitted the given spikes.

    Args:
        machine: the network.
        x: (T, B, *input_shape), float64.
        spikes: neuron layer -> (T, B, *features), float64.
        state: where the run started, name -> (B, *shape), float64.
        precision: of the arithmetic that is judged, "float32" or "float64".
    """
    unit, tiny = SAFETY * UNIT_ROUNDOFF[precision], SAFETY * UNDERFLOW[precision]
    walk = _Walk(machine, unit, tiny, {name: _double(value) for name, value in state.items()})
    steps = [walk.step(x_t, {name: s[t] for name, s in spikes.items()}) for t, x_t in enumerate(x)]
    margin = {name: torch.stack([step[0][name] for step in steps]) for name in machine.spiking}
    return Bounds(margin, torch.stack([step[1] for step in steps]), walk.state_bounds())


class _Walk:
    """Carries M and E as the two halves of a doubled batch, through the layers with absolute numbers."""

    def __init__(self, machine: StateMachine, unit: float, tiny: float, state: dict[str, Tensor]) -> None:
        self._machine = machine
        self._unit = unit
        self._tiny = tiny
        self._state = state
        self._layers = {node.name: _absolute(node.layer) for node in machine.nodes}
        self._tensors: dict[int, Tensor] = {}

    def step(self, x: Tensor, spikes: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        now = int(self._state.get("step", torch.zeros(())))
        values = {"x": _double(x)}
        margins: dict[str, Tensor] = {}
        for node in self._machine.nodes:
            own = {role: self._state[f"{node.name}.{role}"] for role in self._machine.roles(node.name)}
            moment = Moment(self._tensor, own, now)
            inputs = [values[name] for name in node.inputs]
            layer = self._layers[node.name]
            if isinstance(layer, ops.SpikingNeuron):
                margins[node.name] = self._margin(node.layer, layer, inputs[0], moment)
                values[node.name] = _double(spikes[node.name])
            else:
                value, terms = evaluate(layer, inputs, moment), _terms(node.layer, inputs, now)
                values[node.name] = self._rounded(value, terms, _offset(node.layer, value.ndim))
            for role, value in moment.new_state.items():
                self._state[f"{node.name}.{role}"] = self._rounded(value, 1)
        if "step" in self._state:
            self._state["step"] = self._state["step"] + 1
        return margins, values[self._machine.output].chunk(2)[1]

    def state_bounds(self) -> dict[str, Tensor]:
        """Bounds of the state as it is now; the step counter is exact."""
        return {name: value.chunk(2)[1] for name, value in self._state.items() if value.ndim}

    def _margin(self, exact: Any, layer: ops.SpikingNeuron, current: Tensor, moment: Moment) -> Tensor:
        """Bound of V - R - threshold; `layer` has absolute numbers and no bias, `exact` is as it is."""

        def run(operator: operators.Operator, role: str, value: Tensor) -> Tensor:
            bias = _bias_at(exact.operators[role], moment.step)
            return self._rounded(advance(operator, role, value, moment), _products(operator), bias)

        potential = run(layer.integrate, "V", current)
        parts = [potential]
        if layer.reset is not None:
            estimated = potential if layer.estimate is None else run(layer.estimate, "E", current)
            if isinstance(layer.estimator, operators.Sigmoid):
                _, error = estimated.chunk(2)
                # |sigmoid'| <= 1/4, and a sigmoid is at most 1.
                estimated = torch.cat([torch.ones_like(error), error / 4 + SIGMOID_ERROR * self._unit])
            parts.append(run(layer.reset, "R", estimated))
        total = sum(parts[1:], parts[0])
        return self._rounded(total, 2, torch.tensor(abs(layer.threshold))).chunk(2)[1]

    def _tensor(self, array: Array) -> Tensor:
        if id(array) not in self._tensors:
            self._tensors[id(array)] = _tensor(array)
        return self._tensors[id(array)]

    def _rounded(self, value: Tensor, terms: int, offset: Tensor | None = None) -> Tensor:
        """Add the rounding of a sum of `terms` products and a constant."""
        magnitude, error = value.chunk(2)
        magnitude = magnitude if offset is None else magnitude + offset
        return torch.cat([magnitude, error + (terms + 2) * (self._unit * magnitude + self._tiny)])


def _double(value: Tensor) -> Tensor:
    """M = |value|, E = 0; the step counter stays what it is."""
    return value if value.ndim == 0 else torch.cat([value.abs(), torch.zeros_like(value)])


def _absolute(layer: Any) -> Any:
    """The same layer with absolute numbers and without its constant."""
    changed: dict[str, Any] = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.name in ("bias", "shift"):
            changed[field.name] = None if value is None or hasattr(layer, "weight") else np.zeros_like(value)
        elif isinstance(value, np.ndarray):
            changed[field.name] = np.abs(value)
        elif isinstance(value, float):
            changed[field.name] = abs(value)
        elif is_dataclass(value):
            changed[field.name] = _absolute(value)
    return replace(layer, **changed)


def _offset(layer: ops.Layer, ndim: int) -> Tensor | None:
    """|bias|, shaped to be added to a value (B, *features) of ndim axes."""
    match layer:
        case ops.Linear(bias=bias):
            return None if bias is None else _tensor(np.abs(bias))
        case ops.Conv1d(bias=bias) | ops.Conv2d(bias=bias) | ops.ChannelAffine(shift=bias):
            return None if bias is None else _tensor(np.abs(bias)).view(-1, *[1] * (ndim - 2))
    return None


def _products(operator: operators.Operator) -> int:
    """How many products are summed into one result. A leak's are counted step by step, in its state."""
    match operator:
        case operators.PartialSums():
            return len(operator.bias)
        case operators.Window():
            return operator.order
        case operators.Exponentials():
            return len(operator.gains)
    return 1


def _bias_at(operator: operators.Operator, step: int) -> Tensor | None:
    match operator:
        case operators.PartialSums():
            return _tensor(np.abs(operator.bias))[step]
        case operators.Window():
            return _tensor(np.abs(operator.bias))[0 if operator.time_invariant else step]
    return None


def _terms(layer: ops.Layer, inputs: Sequence[Tensor], step: int) -> int:
    """How many products are summed into one output; those with an exact zero round nothing."""
    match layer:
        case ops.Linear():
            magnitude, _ = inputs[0].chunk(2)
            return int(torch.count_nonzero(magnitude, dim=-1).max())
        case ops.Conv1d() | ops.Conv2d():
            return int(np.prod(layer.weight.shape[1:]))
        case ops.AvgPool() | ops.SumPool():
            return int(np.prod(layer.kernel))
        case ops.Readout():
            return step + 1
    return 1


def _tensor(array: Array) -> Tensor:
    return torch.tensor(array, dtype=torch.float64)
