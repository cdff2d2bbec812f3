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

from psu_deploy.errors import InternalError
from psu_deploy.machine import Node, StateMachine, operators, ops
from psu_deploy.machine.fields import Array
from psu_deploy.machine.reference import Moment, advance, evaluate

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
"""Half the distance from 1 to the next number."""

UNDERFLOW = {"float32": 2.0**-100, "float64": 2.0**-900}
"""Numbers below 2**-126 (2**-1022) lose bits, or become zero where the hardware flushes them. These are far above that,
so that the bounds themselves never get there, where arithmetic is slow too; and far below anything that matters."""

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
    walk = _Walk(machine, precision, state)
    steps = [walk.step(x_t, {name: s[t] for name, s in spikes.items()}) for t, x_t in enumerate(x)]
    margin = {name: torch.stack([step[0][name] for step in steps]) for name in machine.spiking}
    return Bounds(margin, torch.stack([step[1] for step in steps]), walk.state_bounds())


class _Walk:
    """Carries M and E as the two halves of a doubled batch, through the layers with absolute numbers.

    In the precision that is judged: M and E are sums of positive terms, so they lose nothing to cancellation, and what
    they lose to rounding is a part of them as small as the unit roundoff, far inside `SAFETY`.
    """

    def __init__(self, machine: StateMachine, precision: str, state: Mapping[str, Tensor]) -> None:
        self._machine = machine
        self._unit = SAFETY * UNIT_ROUNDOFF[precision]
        self._tiny = SAFETY * UNDERFLOW[precision]
        self._dtype = torch.float32 if precision == "float32" else torch.float64
        self._state = {name: self._double(value) for name, value in state.items()}
        self._layers = {node.name: _absolute(node.layer) for node in machine.nodes}
        self._tensors: dict[int, Tensor] = {}

    def step(self, x: Tensor, spikes: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        machine, now = self._machine, int(self._state.get("step", torch.zeros(())))
        values = {"x": self._double(x)}
        margins: dict[str, Tensor] = {}
        for node in machine.nodes:
            local = now - machine.starts[node.name]
            if local < 0 or (local > 0 and node.name in machine.once):
                values[node.name] = values["x"].new_zeros(2 * len(x), *machine.shapes[node.name])
                if isinstance(node.layer, ops.Neuron):
                    margins[node.name] = values[node.name].chunk(2)[1]
                continue
            own = {role: self._state[f"{node.name}.{role}"] for role in machine.roles(node.name)}
            moment = Moment(self._tensor, own, local)
            inputs = [values[name] for name in node.inputs]
            if isinstance(node.layer, ops.Neuron):
                margins[node.name] = self._margin(node, inputs[0], spikes[node.name], moment)
                values[node.name] = self._double(spikes[node.name])
            else:
                values[node.name] = self._value(node, inputs, moment)
            for role, value in moment.new_state.items():
                self._state[f"{node.name}.{role}"] = self._rounded(value, 1)
        if "step" in self._state:
            self._state["step"] = self._state["step"] + 1
        return margins, values[machine.output].chunk(2)[1]

    def _value(self, node: Node, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
        layer = self._layers[node.name]
        match node.layer:
            case ops.Multiply():
                value = _product(inputs)
            case ops.Activation(kind="sigmoid"):
                return self._sigmoid(inputs[0])
            case _:
                value = evaluate(layer, inputs, moment)
        return self._rounded(value, _terms(node.layer, inputs, moment.step), self._offset(node.layer, value.ndim))

    def _sigmoid(self, value: Tensor) -> Tensor:
        """|sigmoid'| <= 1/4, and a sigmoid is at most 1."""
        _, error = value.chunk(2)
        return torch.cat([torch.ones_like(error), error / 4 + SIGMOID_ERROR * self._unit])

    def state_bounds(self) -> dict[str, Tensor]:
        """Bounds of the state as it is now; the step counter is exact."""
        return {name: value.chunk(2)[1] for name, value in self._state.items() if value.ndim}

    def _margin(self, node: Node, current: Tensor, spikes: Tensor, moment: Moment) -> Tensor:
        """Bound of the margin's error. Operators run with absolute numbers and no bias; biases are added as offsets."""
        absolute = self._layers[node.name]
        match node.layer:
            case ops.SpikingNeuron() as exact:
                return self._spiking_margin(exact, absolute, current, moment)
            case ops.BernoulliNeuron() as exact:
                estimated = self._sigmoid(self._advance(exact.integrate, absolute.integrate, "V", current, moment))
                return self._rounded(estimated, 2, torch.ones(())).chunk(2)[1]  # the noise is at most 1
            case ops.LIFNeuron() as exact:
                return self._lif_margin(exact, current, spikes, moment)
        raise InternalError(f"no error bound for {type(node.layer).__name__}")

    def _spiking_margin(self, exact: ops.SpikingNeuron, absolute: Any, current: Tensor, moment: Moment) -> Tensor:
        potential = self._advance(exact.integrate, absolute.integrate, "V", current, moment)
        parts = [potential]
        if exact.reset is not None:
            estimated = potential
            if exact.estimate is not None:
                estimated = self._advance(exact.estimate, absolute.estimate, "E", current, moment)
            if isinstance(exact.estimator, operators.Sigmoid):
                estimated = self._sigmoid(estimated)
            parts.append(self._advance(exact.reset, absolute.reset, "R", estimated, moment))
        total = sum(parts[1:], parts[0])
        return self._rounded(total, 2, torch.tensor(abs(exact.threshold))).chunk(2)[1]

    def _lif_margin(self, exact: ops.LIFNeuron, current: Tensor, spikes: Tensor, moment: Moment) -> Tensor:
        """An error of V is carried on by the factor 1 - 1/tau, though V itself appears twice in the sum."""
        share = 0.0 if exact.tau is None else 1.0 / exact.tau
        before, drive = moment.state["V"], current * (share if exact.decay_input else 1.0)
        magnitude, error = (before * (1.0 - share) + drive).chunk(2)
        summed = (before + drive).chunk(2)[0] + magnitude + current.chunk(2)[0]
        potential = torch.cat([magnitude, error + 6 * (self._unit * summed + self._tiny)])
        spikes = spikes.to(self._dtype)
        fired = torch.cat([spikes, spikes])
        if exact.reset == "hard":
            moment.new_state["V"] = potential * (1 - fired)
        else:
            taken = torch.cat([abs(exact.threshold) * spikes, torch.zeros_like(spikes)])
            moment.new_state["V"] = self._rounded(potential + taken, 2)
        return self._rounded(potential, 2, torch.tensor(abs(exact.threshold))).chunk(2)[1]

    def _advance(
        self, exact: operators.Operator, absolute: operators.Operator, role: str, value: Tensor, moment: Moment
    ) -> Tensor:
        result = advance(absolute, role, value, moment)
        return self._rounded(result, _products(exact), self._bias_at(exact, moment.step))

    def _tensor(self, array: Array) -> Tensor:
        if id(array) not in self._tensors:
            self._tensors[id(array)] = torch.tensor(array, dtype=self._dtype)
        return self._tensors[id(array)]

    def _offset(self, layer: ops.Layer, ndim: int) -> Tensor | None:
        """|bias|, shaped to be added to a value (B, *features) of ndim axes."""
        match layer:
            case ops.Linear(bias=bias):
                return None if bias is None else self._absolute(bias)
            case (
                ops.Conv1d(bias=bias) | ops.Conv2d(bias=bias) | ops.TimeConv(bias=bias) | ops.ChannelAffine(shift=bias)
            ):
                return None if bias is None else self._absolute(bias).view(-1, *[1] * (ndim - 2))
        return None

    def _bias_at(self, operator: operators.Operator, step: int) -> Tensor | None:
        match operator:
            case operators.PartialSums():
                return self._absolute(operator.bias)[step]
            case operators.Window():
                return self._absolute(operator.bias)[0 if operator.time_invariant else step]
        return None

    def _absolute(self, array: Array) -> Tensor:
        return torch.tensor(np.abs(array), dtype=self._dtype)

    def _double(self, value: Tensor) -> Tensor:
        """M = |value|, E = 0; the step counter stays what it is."""
        value = value.to(self._dtype) if value.ndim else value
        return value if value.ndim == 0 else torch.cat([value.abs(), torch.zeros_like(value)])

    def _rounded(self, value: Tensor, terms: int, offset: Tensor | None = None) -> Tensor:
        """Add the rounding of a sum of `terms` products and a constant."""
        magnitude, error = value.chunk(2)
        magnitude = magnitude if offset is None else magnitude + offset
        return torch.cat([magnitude, error + (terms + 2) * (self._unit * magnitude + self._tiny)])


def _product(inputs: Sequence[Tensor]) -> Tensor:
    """(M1 + E1)(M2 + E2) - M1 M2 is how far a product can be off."""
    magnitude, error = inputs[0].chunk(2)
    for factor in inputs[1:]:
        other, other_error = factor.chunk(2)
        error = magnitude * other_error + error * other + error * other_error
        magnitude = magnitude * other
    return torch.cat([magnitude, error])


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


def _terms(layer: ops.Layer, inputs: Sequence[Tensor], step: int) -> int:
    """How many products are summed into one output; those with an exact zero round nothing."""
    match layer:
        case ops.Linear():
            magnitude, _ = inputs[0].chunk(2)
            return int(torch.count_nonzero(magnitude, dim=-1).max())
        case ops.Conv1d() | ops.Conv2d() | ops.TimeConv():
            return int(np.prod(layer.weight.shape[1:]))
        case ops.AvgPool() | ops.SumPool():
            return int(np.prod(layer.kernel))
        case ops.Add() | ops.Multiply():
            return len(inputs)
        case ops.Readout():
            return step + 1
    return 1
