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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy import sigmoid_table
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
class Arithmetic:
    """What an engine computes in other operations than the machine does. `SpikingNeuron` and `LIFNeuron` only.

    Attributes:
        reset_by_difference: a leaky reset of gain g is `R[t] = Q[t] - g*S'[t]`, `Q[t] = decay*Q[t-1] + g*S'[t]`,
            where the machine has `R[t] = decay*Q[t-1]`.
        remembers_margin: what is compared, with V_th or with a threshold of the staircase, is `old + (new - old)`, old
            being what was compared in the step before; of the size of the threshold at most before the first.
    """

    reset_by_difference: bool = False
    remembers_margin: bool = False


AS_THE_MACHINE = Arithmetic()
"""The operations of the machine, whatever the order of its sums."""


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
    """
    if estimate is None:
        estimate = machine.trace(x, state, spikes=spikes).estimate if _looks_at_estimate(machine) else {}
    walk = _Walk(machine, precision, state, arithmetic)
    steps = [walk.step(x_t, _at(spikes, t), _at(estimate, t)) for t, x_t in enumerate(x)]
    margin = {name: torch.stack([step[0][name] for step in steps]) for name in machine.spiking}
    return Bounds(margin, torch.stack([step[1] for step in steps]), walk.state_bounds())


def _at(rows: Mapping[str, Tensor], t: int) -> dict[str, Tensor]:
    return {name: values[t] for name, values in rows.items()}


def _looks_at_estimate(machine: StateMachine) -> bool:
    stepped = operators.Staircase | operators.SigmoidTable
    return any(isinstance(getattr(node.layer, "estimator", None), stepped) for node in machine.nodes)


class _Walk:
    """Carries M and E as the two halves of a doubled batch, through the layers with absolute numbers.

    In the precision that is judged: M and E are sums of positive terms, so they lose nothing to cancellation, and what
    they lose to rounding is a part of them as small as the unit roundoff, far inside `SAFETY`.
    """

    def __init__(
        self, machine: StateMachine, precision: str, state: Mapping[str, Tensor], arithmetic: Arithmetic
    ) -> None:
        self._machine = machine
        self._arithmetic = arithmetic
        self._unit = SAFETY * UNIT_ROUNDOFF[precision]
        self._tiny = SAFETY * UNDERFLOW[precision]
        self._dtype = torch.float32 if precision == "float32" else torch.float64
        self._state = {name: self._double(value) for name, value in state.items()}
        self._layers = {node.name: _absolute(node.layer) for node in machine.nodes}
        self._tensors: dict[int, Tensor] = {}
        self._compared: dict[str, Tensor] = {}

    def step(
        self, x: Tensor, spikes: Mapping[str, Tensor], estimate: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
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
                seen = estimate.get(node.name)
                margins[node.name] = self._margin(node, inputs[0], spikes[node.name], seen, moment)
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
            case ops.Filter(operator=operator):
                return self._advance(operator, layer.operator, "y", inputs[0], moment)
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

    def _margin(self, node: Node, current: Tensor, spikes: Tensor, seen: Tensor | None, moment: Moment) -> Tensor:
        """Bound of the margin's error. Operators run with absolute numbers and no bias; biases are added as offsets."""
        absolute = self._layers[node.name]
        match node.layer:
            case ops.SpikingNeuron() as exact:
                total = self._difference(node.name, exact, absolute, current, seen, moment)
                return self._compare(node.name, total, exact.threshold)
            case ops.BernoulliNeuron() as exact:
                estimated = self._sigmoid(self._advance(exact.integrate, absolute.integrate, "V", current, moment))
                return self._rounded(estimated, 2, torch.ones(())).chunk(2)[1]  # the noise is at most 1
            case ops.LIFNeuron() as exact:
                return self._compare(node.name, self._lif(exact, current, spikes, moment), exact.threshold)
        raise InternalError(f"no error bound for {type(node.layer).__name__}")

    def _difference(
        self, name: str, exact: ops.SpikingNeuron, absolute: Any, current: Tensor, seen: Tensor | None, moment: Moment
    ) -> Tensor:
        """V - R."""
        potential = self._advance(exact.integrate, absolute.integrate, "V", current, moment)
        if exact.reset is None:
            return potential
        estimated = potential
        if exact.estimate is not None:
            estimated = self._advance(exact.estimate, absolute.estimate, "E", current, moment)
        match exact.estimator:
            case operators.Sigmoid():
                estimated = self._sigmoid(estimated)
            case operators.Staircase() as staircase:
                assert seen is not None
                levels = torch.tensor(np.abs(staircase.thresholds).max(), dtype=self._dtype)
                estimated = self._staircase(staircase, self._remembered(f"{name}.E", estimated, levels), seen)
            case operators.SigmoidTable():
                assert seen is not None
                estimated = self._sigmoid_table(estimated, seen)
        reset = self._advance(exact.reset, absolute.reset, "R", estimated, moment)
        if self._arithmetic.reset_by_difference and isinstance(exact.reset, operators.StrictLeak):
            reset = self._with_error(reset, 4, reset.chunk(2)[0] + abs(exact.reset.gain) * estimated.chunk(2)[0])
        return potential + reset

    def _staircase(self, estimator: operators.Staircase, value: Tensor, seen: Tensor) -> Tensor:
        """An error e of E turns every step with |E - threshold| <= e, E and the thresholds with their signs.

        Thresholds are rounded too. They are rising, so those out of reach on either side are counted.
        """
        _, error = value.chunk(2)
        thresholds = torch.from_numpy(estimator.thresholds.copy())
        slack = 2 * self._unit * thresholds.abs() + self._tiny
        within = torch.bucketize((seen + error).contiguous(), thresholds - slack, right=True)
        below = torch.bucketize((seen - error).contiguous(), thresholds + slack, right=False)
        steps, height = len(thresholds), abs(estimator.height)
        turned = (within - below).to(error.dtype)
        most = torch.full_like(error, abs(estimator.offset) + height * steps)
        return self._rounded(torch.cat([most, height * turned]), steps)

    def _sigmoid_table(self, value: Tensor, seen: Tensor) -> Tensor:
        """An error e of E gives `f(E + e) - f(E)` or `f(E) - f(E - e)` at most; f itself is exact, and below 1."""
        _, error = value.chunk(2)  # never 0: hardware that flushes to zero takes what is just below 0 for 0
        low, exact, high = (_table_at(e) for e in (seen - error, seen, seen + error))
        return torch.cat([torch.ones_like(error), torch.maximum(high - exact, exact - low).to(error.dtype)])

    def _compare(self, name: str, total: Tensor, threshold: float) -> Tensor:
        """Bound of the error of `total - threshold`, what an engine compares with zero."""
        size = torch.tensor(abs(threshold), dtype=self._dtype)
        return self._remembered(name, self._rounded(total, 2, size), size).chunk(2)[1]

    def _remembered(self, name: str, compared: Tensor, size: Tensor) -> Tensor:
        """With the rounding of an engine that computes what it compares with a threshold of that size from the last."""
        if not self._arithmetic.remembers_margin:
            return compared
        magnitude = compared.chunk(2)[0] + size
        before = self._compared.get(name, size)
        self._compared[name] = magnitude
        return self._with_error(compared, 4, magnitude + before)

    def _lif(self, exact: ops.LIFNeuron, current: Tensor, spikes: Tensor, moment: Moment) -> Tensor:
        """H. An error of V is carried on by the factor 1 - 1/tau, though V itself appears twice in the sum."""
        share = 0.0 if exact.tau is None else 1.0 / exact.tau
        before, drive = moment.state["V"], current * (share if exact.decay_input else 1.0)
        magnitude, error = (before * (1.0 - share) + drive).chunk(2)
        summed = (before + drive).chunk(2)[0] + magnitude + current.chunk(2)[0]
        potential = self._with_error(torch.cat([magnitude, error]), 6, summed)
        spikes = spikes.to(self._dtype)
        fired = torch.cat([spikes, spikes])
        if exact.reset == "hard":
            moment.new_state["V"] = potential * (1 - fired)
        else:
            taken = torch.cat([abs(exact.threshold) * spikes, torch.zeros_like(spikes)])
            moment.new_state["V"] = self._rounded(potential + taken, 2)
        return potential

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
            case operators.Exponentials(bias=bias):
                return torch.tensor(abs(bias), dtype=self._dtype)
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
        return self._with_error(torch.cat([magnitude, error]), terms + 2, magnitude)

    def _with_error(self, value: Tensor, roundings: int, magnitude: Tensor) -> Tensor:
        """Add so many roundings of numbers of this magnitude."""
        own, error = value.chunk(2)
        return torch.cat([own, error + roundings * (self._unit * magnitude + self._tiny)])


def _table_at(value: Tensor) -> Tensor:
    """The table of the sigmoid at E; differences of its values are exact."""
    z = np.floor(np.clip(value.numpy(), -sigmoid_table.LIMIT, sigmoid_table.LIMIT) * sigmoid_table.PER_UNIT)
    whole = sigmoid_table.integer_sigmoid(np.nan_to_num(z).astype(np.int64))
    return torch.from_numpy(whole / 2**sigmoid_table.VALUE_BITS)


def _product(inputs: Sequence[Tensor]) -> Tensor:
    """(M1 + E1)(M2 + E2) - M1 M2 is how far a product can be off."""
    magnitude, error = inputs[0].chunk(2)
    for factor in inputs[1:]:
        other, other_error = factor.chunk(2)
        error = magnitude * other_error + error * other + error * other_error
        magnitude = magnitude * other
    return torch.cat([magnitude, error])


def _absolute(layer: Any) -> Any:
    """The same layer with absolute numbers and without its constant. A staircase stays: it needs the signs."""
    if isinstance(layer, operators.Staircase):
        return layer
    changed: dict[str, Any] = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.name in ("bias", "shift"):
            changed[field.name] = None if value is None or hasattr(layer, "weight") else 0 * value
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
