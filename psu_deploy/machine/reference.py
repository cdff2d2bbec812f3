"""The serial interpreter: what a state machine means, one step at a time, in torch.

Every other form of the same network (ONNX, NIR, Lava) is judged against this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.machine import ops
from psu_deploy.machine.graph import Graph
from psu_deploy.machine.kinds import Part, Vocabulary, unknown_kind
from psu_deploy.machine.ops.fields import Array
from psu_deploy.numerics import sigmoid_table
from psu_deploy.numerics.noise import uniform

State = Mapping[str, Tensor]


class NeuronStep(NamedTuple):
    """What one neuron layer did in one step, each (B, *features); see `Trace`."""

    spikes: Tensor
    potential: Tensor
    reset: Tensor
    margin: Tensor
    estimate: Tensor


@dataclass(frozen=True)
class Step:
    """One step of the whole network: output, the next state, and every neuron layer's doing."""

    output: Tensor
    state: dict[str, Tensor]
    neurons: dict[str, NeuronStep]


@dataclass
class Moment:
    """What a layer sees besides its inputs: its own state, its own count of steps, and where to put results.

    A neuron layer may be told what to emit (`forced`): it still decides, and the margin shows how, but what it emits,
    and what its reset follows, is as told.
    """

    tensor: Callable[[Array], Tensor]
    state: Mapping[str, Tensor]
    step: int
    forced: Tensor | None = None
    new_state: dict[str, Tensor] = field(default_factory=dict)
    neuron: NeuronStep | None = None


class Interpreter:
    """Runs a graph in one dtype on one device.

    Args:
        graph: what to run.
        dtype: torch.float32 or torch.float64; parameters are rounded to it once.
        device: any torch device.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator that has no meaning here.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype, device: torch.device) -> None:
        VOCABULARY.check(graph.nodes, _ACTION)
        self._graph = graph
        self._dtype = dtype
        self._device = device
        self._cache: dict[int, Tensor] = {}

    def step(self, x: Tensor, state: State, spikes: State | None = None) -> Step:
        """Advance by one step; neither x nor state is changed.

        Args:
            x: input, (B, *features).
            state: name -> tensor, as in `Graph.state_spec`.
            spikes: neuron layer -> spikes (B, *features) it shall emit instead of its own decision; what it would
                have decided is still in the margin.
        """
        graph = self._graph
        step = int(state["step"]) if "step" in state else 0
        values: dict[str, Tensor] = {"x": x}
        new_state = {"step": state["step"] + 1} if "step" in state else {}
        neurons: dict[str, NeuronStep] = {}
        for node in graph.nodes:
            own = {role: state[f"{node.name}.{role}"] for role in graph.roles(node.name)}
            local = step - graph.starts[node.name]
            if local < 0 or (local > 0 and node.name in graph.once):
                value = x.new_zeros(len(x), *graph.shapes[node.name])
                moment = Moment(self._tensor, own, 0, new_state=dict(own), neuron=NeuronStep(*[value] * 5))
            else:
                moment = Moment(self._tensor, own, local, None if spikes is None else spikes.get(node.name))
                value = evaluate(node.layer, [values[name] for name in node.inputs], moment)
                value = value if step >= graph.latencies[node.name] else torch.zeros_like(value)
            if isinstance(node.layer, ops.Neuron):
                assert moment.neuron is not None
                neurons[node.name] = moment.neuron
            values[node.name] = value
            new_state |= {f"{node.name}.{role}": moment.new_state[role] for role in own}
        return Step(values[graph.output], new_state, neurons)

    def _tensor(self, array: Array) -> Tensor:
        key = id(array)
        if key not in self._cache:
            self._cache[key] = torch.tensor(array, dtype=self._dtype, device=self._device)
        return self._cache[key]


def evaluate(layer: ops.Layer, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    """One step of a layer: its output; its next state goes into the moment. An unknown kind is refused."""
    return _rule(_EVALUATORS, layer, "layer")(layer, inputs, moment)


def _rule(table: Mapping[type, Callable[..., Tensor]], part: Part, role: str) -> Callable[..., Tensor]:
    """The rule for one part; it is asked for without a network around it, so a refusal cannot tell the path."""
    if type(part) not in table:
        raise UnsupportedModelError([unknown_kind(_READER, "?", part, role, table)], _ACTION)
    return table[type(part)]


def _linear(layer: ops.Linear, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    bias = None if layer.bias is None else moment.tensor(layer.bias)
    return F.linear(inputs[0], moment.tensor(layer.weight), bias)


def _conv(layer: Any, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    convolve: Callable[..., Tensor] = F.conv1d if isinstance(layer, ops.Conv1d) else F.conv2d
    bias = None if layer.bias is None else moment.tensor(layer.bias)
    padded = _pad(inputs[0], layer.padding, 0.0)
    return convolve(padded, moment.tensor(layer.weight), bias, layer.stride, 0, layer.dilation, layer.groups)


def _channel_affine(layer: ops.ChannelAffine, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    channels = (-1, *[1] * (inputs[0].ndim - 2))
    return inputs[0] * moment.tensor(layer.scale).view(channels) + moment.tensor(layer.shift).view(channels)


def _avg_pool(layer: ops.AvgPool, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    pool: Callable[..., Tensor] = F.avg_pool1d if len(layer.kernel) == 1 else F.avg_pool2d
    mean = pool(_pad(inputs[0], layer.padding, 0.0), layer.kernel, layer.stride)
    if layer.count_padding:
        return mean
    return mean / pool(_pad(torch.ones_like(inputs[0]), layer.padding, 0.0), layer.kernel, layer.stride)


def _sum_pool(layer: ops.SumPool, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    # Two axes always: only avg_pool2d can be told not to divide, and a mean times its size rounds.
    one_axis = len(layer.kernel) == 1
    x = _pad(inputs[0], layer.padding, 0.0)
    x = x.unsqueeze(-2) if one_axis else x
    kernel, stride = ((1, *layer.kernel), (1, *layer.stride)) if one_axis else (layer.kernel, layer.stride)
    total = F.avg_pool2d(x, kernel, stride, divisor_override=1)
    return total.squeeze(-2) if one_axis else total


def _max_pool(layer: ops.MaxPool, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    pool: Callable[..., Tensor] = F.max_pool1d if len(layer.kernel) == 1 else F.max_pool2d
    return pool(_pad(inputs[0], layer.padding, -torch.inf), layer.kernel, layer.stride)


def _flatten(layer: ops.Flatten, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return inputs[0].flatten(1) if inputs[0].ndim > 1 else inputs[0][:, None]


def _add(layer: ops.Add, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    total = inputs[0]
    for term in inputs[1:]:
        total = total + term
    return total


def _multiply(layer: ops.Multiply, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    product = inputs[0]
    for factor in inputs[1:]:
        product = product * factor
    return product


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "sigmoid": torch.sigmoid}


def _activation(layer: ops.Activation, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return _ACTIVATIONS[layer.kind](inputs[0])


def _time_conv(layer: ops.TimeConv, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    window = inputs[0][:, None]
    if "inputs" in moment.state:
        window = torch.cat([moment.state["inputs"], window], dim=1)
        moment.new_state["inputs"] = window[:, 1:]
    bias = None if layer.bias is None else moment.tensor(layer.bias)
    return F.conv1d(window.transpose(1, 2), moment.tensor(layer.weight), bias, groups=layer.groups).squeeze(2)


def _hold(layer: ops.Hold, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    value = inputs[0] if moment.step == 0 else moment.state["value"]
    moment.new_state["value"] = value
    return value


def _filter(layer: ops.Filter, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    return advance(layer.operator, "y", inputs[0], moment)


def _delay(layer: ops.Delay, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    buffer = moment.state["buffer"]
    moment.new_state["buffer"] = torch.cat([buffer[:, 1:], inputs[0][:, None]], dim=1)
    return buffer[:, 0]


def _readout(layer: ops.Readout, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    if layer.kind == "last":
        return inputs[0]
    total = moment.state["sum"] + inputs[0]
    moment.new_state["sum"] = total
    return total / (moment.step + 1) if layer.kind == "mean" else total


def _spiking_neuron(layer: ops.SpikingNeuron, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    current = inputs[0]
    potential = advance(layer.integrate, "V", current, moment)
    reset = seen = torch.zeros_like(potential)
    if layer.reset is not None:
        seen = potential if layer.estimate is None else advance(layer.estimate, "E", current, moment)
        reset = advance(layer.reset, "R", estimate(layer.estimator, seen, moment), moment)
    margin = potential - reset - layer.threshold
    return _emit(potential, reset, margin, seen, layer.fire_on, moment)


def _lif_neuron(layer: ops.LIFNeuron, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    current, before = inputs[0], moment.state["V"]
    if layer.tau is None:
        potential = before + current
    elif layer.decay_input:
        potential = before + (current - before) / layer.tau
    else:
        potential = before - before / layer.tau + current
    none = torch.zeros_like(potential)
    spikes = _emit(potential, none, potential - layer.threshold, none, layer.fire_on, moment)
    soft = layer.reset == "soft"
    moment.new_state["V"] = potential - layer.threshold * spikes if soft else potential * (1 - spikes)
    return spikes


def _bernoulli_neuron(layer: ops.BernoulliNeuron, inputs: Sequence[Tensor], moment: Moment) -> Tensor:
    current = inputs[0]
    potential = advance(layer.integrate, "V", current, moment)
    noise = uniform(layer.seed, moment.step, len(current), tuple(current.shape[1:]), like=current)
    none = torch.zeros_like(potential)
    return _emit(potential, none, torch.sigmoid(potential) - noise, none, ">", moment)


def _emit(potential: Tensor, reset: Tensor, margin: Tensor, seen: Tensor, fire_on: str, moment: Moment) -> Tensor:
    """Decide, note the decision, and return the spikes: those decided, or those told."""
    fired = margin >= 0 if fire_on == ">=" else margin > 0
    moment.neuron = NeuronStep(fired.to(margin.dtype), potential, reset, margin, seen)
    return moment.neuron.spikes if moment.forced is None else moment.forced


_EVALUATORS: dict[type, Callable[[Any, Sequence[Tensor], Moment], Tensor]] = {
    ops.Linear: _linear,
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.ChannelAffine: _channel_affine,
    ops.AvgPool: _avg_pool,
    ops.SumPool: _sum_pool,
    ops.MaxPool: _max_pool,
    ops.Flatten: _flatten,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Activation: _activation,
    ops.Delay: _delay,
    ops.Wait: _delay,
    ops.TimeConv: _time_conv,
    ops.Filter: _filter,
    ops.Hold: _hold,
    ops.Readout: _readout,
    ops.SpikingNeuron: _spiking_neuron,
    ops.LIFNeuron: _lif_neuron,
    ops.BernoulliNeuron: _bernoulli_neuron,
}


def advance(operator: ops.CausalOperator, role: str, x: Tensor, moment: Moment) -> Tensor:
    """One step of a causal operator: its output; its next state goes into the moment. An unknown kind is refused."""
    return _rule(_OPERATORS, operator, "operator")(operator, role, x, moment)


def estimate(estimator: ops.Estimator, value: Tensor, moment: Moment) -> Tensor:
    """The estimated spike S' of every E. An unknown kind is refused."""
    return _rule(_ESTIMATORS, estimator, "estimator")(estimator, value, moment)


def _identity(operator: ops.Identity, role: str, x: Tensor, moment: Moment) -> Tensor:
    return x


def _leak(operator: ops.Leak, role: str, x: Tensor, moment: Moment) -> Tensor:
    moment.new_state[role] = moment.state[role] * operator.decay + operator.gain * x
    return moment.new_state[role]


def _strict_leak(operator: ops.StrictLeak, role: str, x: Tensor, moment: Moment) -> Tensor:
    state = moment.state[role]
    moment.new_state[role] = (state + operator.gain * x) * operator.decay
    return state


def _exponentials(operator: ops.Exponentials, role: str, x: Tensor, moment: Moment) -> Tensor:
    terms = (1, -1, *[1] * (x.ndim - 1))
    gains, decays = (moment.tensor(v).view(terms) for v in (operator.gains, operator.decays))
    moment.new_state[role] = decays * moment.state[role] + gains * x[:, None]
    return moment.new_state[role].sum(1) + operator.bias


def _partial_sums(operator: ops.PartialSums, role: str, x: Tensor, moment: Moment) -> Tensor:
    t, matrix, bias = moment.step, moment.tensor(operator.matrix), moment.tensor(operator.bias)
    y = matrix[t, t] * x
    if role in moment.state:
        sums = moment.state[role]
        y = y + sums[:, t - 1]
        later = matrix[1:, t].clone()
        later[:t] = 0.0
        moment.new_state[role] = sums + later.view(1, -1, *[1] * (x.ndim - 1)) * x[:, None]
    return y + bias[t]


def _window(operator: ops.Window, role: str, x: Tensor, moment: Moment) -> Tensor:
    row = 0 if operator.time_invariant else moment.step
    sums = moment.tensor(operator.columns)[row].view(1, -1, *[1] * (x.ndim - 1)) * x[:, None]
    if role in moment.state:
        sums[:, :-1] += moment.state[role]
        moment.new_state[role] = sums[:, 1:]
    return sums[:, 0] + moment.tensor(operator.bias)[row]


_OPERATORS: dict[type, Callable[[Any, str, Tensor, Moment], Tensor]] = {
    ops.Identity: _identity,
    ops.Leak: _leak,
    ops.StrictLeak: _strict_leak,
    ops.PartialSums: _partial_sums,
    ops.Window: _window,
    ops.Exponentials: _exponentials,
}


def _sigmoid(estimator: ops.Sigmoid, value: Tensor, moment: Moment) -> Tensor:
    return torch.sigmoid(value)


def _raw_current(estimator: ops.RawCurrent, value: Tensor, moment: Moment) -> Tensor:
    return value


def _staircase(estimator: ops.Staircase, value: Tensor, moment: Moment) -> Tensor:
    steps_below = torch.bucketize(value.contiguous(), moment.tensor(estimator.thresholds), right=True)
    return steps_below.to(value.dtype) * estimator.height + estimator.offset


_TABLE = sigmoid_table.VALUES.astype(np.float64)


def _sigmoid_table(estimator: ops.SigmoidTable, value: Tensor, moment: Moment) -> Tensor:
    """The table at floor(1024 E), a product that is exact; what is no number stays none."""
    table, first, last = moment.tensor(_TABLE), sigmoid_table.FIRST, sigmoid_table.LAST
    place = (value * sigmoid_table.PER_UNIT).floor().clamp(first, last) - first
    return torch.where(value.isnan(), value, table[place.nan_to_num().long()])


_ESTIMATORS: dict[type, Callable[[Any, Tensor, Moment], Tensor]] = {
    ops.Sigmoid: _sigmoid,
    ops.RawCurrent: _raw_current,
    ops.Staircase: _staircase,
    ops.SigmoidTable: _sigmoid_table,
}

_READER = "the reference interpreter"
_ACTION = "run the machine"

VOCABULARY = Vocabulary(_READER, _EVALUATORS, _OPERATORS, _ESTIMATORS)
"""Every kind that has a meaning."""


def _pad(x: Tensor, padding: ops.Padding, value: float) -> Tensor:
    flat = [n for pair in reversed(padding) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x
