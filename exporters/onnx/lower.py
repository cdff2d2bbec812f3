"""Layers of the state machine -> ONNX nodes for one step, in the order of the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import onnx_ir as ir

from psu_deploy.errors import InternalError
from psu_deploy.exporters.onnx import arithmetic, convolution, events, functions, normalisation, reduction, shape
from psu_deploy.exporters.onnx.neurons import ESTIMATORS, NeuronValues, bernoulli_neuron, lif_neuron, spiking_neuron
from psu_deploy.exporters.onnx.operators import OPERATORS, advance
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary

Rule = Callable[[Any, Sequence[ir.Value], Scope], ir.Value | NeuronValues]
"""(layer, its inputs, its scope) -> its output, and what is inside if it is a neuron layer."""


class Apart(Enum):
    """A row of the table that is no rule: the layer is lowered with others, by `emit`."""

    FIRST_STEP = "a branch that is taken in the first step, with all that only this layer reads"
    OUTPUTS = "what it reads are the outputs of the graph"


@dataclass(frozen=True)
class Lowered:
    """Result of lowering one layer.

    Attributes:
        value: the layer's output.
        neuron: what is inside, if the layer is a neuron layer.
    """

    value: ir.Value
    neuron: NeuronValues | None = None


def check(machine: StateMachine) -> None:
    """Let only machines pass that can be lowered.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
    """
    VOCABULARY.check(machine.nodes, "export the network to ONNX")


def lower(layer: ops.Layer, inputs: Sequence[ir.Value], scope: Scope) -> Lowered:
    """Append the nodes of one step of a layer of a machine that was checked."""
    rule = _RULES[type(layer)]
    if isinstance(rule, Apart):
        raise InternalError(f"{type(layer).__name__} is lowered with others, not on its own; please report it")
    result = rule(layer, inputs, scope)
    return Lowered(result.spikes, result) if isinstance(result, NeuronValues) else Lowered(result)


def in_branch(layer: ops.Layer) -> bool:
    """Whether a layer is lowered together with all that only it reads."""
    return _RULES[type(layer)] is Apart.FIRST_STEP


def _linear(layer: ops.Linear, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    if scope.events is not None:
        return events.event_linear(layer, inputs[0], scope.events, scope)
    if len(scope.features) == 1:
        weight = b.weights(layer.weight, name)
        bias = None if layer.bias is None else b.floats(layer.bias, f"{name}.bias")
        operands = (inputs[0], weight) if bias is None else (inputs[0], weight, bias)
        return b.op("Gemm", *operands, name=name, transB=1)
    product = b.op("MatMul", inputs[0], b.weights(layer.weight, name, channels=1), name=name)
    return product if layer.bias is None else b.op("Add", product, b.floats(layer.bias, f"{name}.bias"), name=name)


def _channel_affine(layer: ops.ChannelAffine, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    channels = (-1, *[1] * (len(scope.features) - 1))
    scaled = b.op("Mul", inputs[0], b.floats(layer.scale.reshape(channels), f"{name}.scale"), name=f"{name}.scaled")
    return b.op("Add", scaled, b.floats(layer.shift.reshape(channels), f"{name}.shift"), name=name)


def _time_conv(layer: ops.TimeConv, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """The window of the last k inputs as the length of an ordinary convolution that fits once."""
    b, name = scope.builder, scope.name
    axis = b.integers([1], "axis_1")
    window = b.op("Unsqueeze", inputs[0], axis, name=f"{name}.newest")
    if layer.order > 1:
        window = b.op("Concat", scope.state("inputs"), window, name=f"{name}.window", axis=1)
        end = b.integers([layer.order], "end")
        scope.set_state("inputs", b.op("Slice", window, b.integers([1], "start"), end, axis, name=f"{name}.kept"))
    length_last = b.op("Transpose", window, name=f"{name}.length_last", perm=[0, 2, 1])
    operands = [length_last, b.weights(layer.weight, name)]
    if layer.bias is not None:
        operands.append(b.floats(layer.bias, f"{name}.bias"))
    once = b.op("Conv", *operands, name=f"{name}.once", kernel_shape=[layer.order], group=layer.groups)
    return b.op("Squeeze", once, b.integers([2], "axis_2"), name=name)


def _filter(layer: ops.Filter, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return advance(layer.operator, "y", inputs[0], scope)


def _delay(layer: ops.Delay, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    axis = b.integers([1], "axis_1")
    newest = b.op("Unsqueeze", inputs[0], axis, name=f"{name}.newest")
    buffer = scope.state("buffer")
    if layer.steps > 1:
        end = b.integers([layer.steps], "end")
        kept = b.op("Slice", buffer, b.integers([1], "start"), end, axis, name=f"{name}.kept")
        newest = b.op("Concat", kept, newest, name=f"{name}.buffer", axis=1)
    scope.set_state("buffer", newest)
    return b.op("Gather", buffer, b.integers(0, "first"), name=name, axis=1)


_RULES: dict[type, Rule | Apart] = {
    **arithmetic.RULES,
    **convolution.RULES,
    **reduction.RULES,
    **shape.RULES,
    ops.Linear: _linear,
    ops.ChannelAffine: _channel_affine,
    ops.TimeConv: _time_conv,
    ops.Filter: _filter,
    ops.Delay: _delay,
    ops.Wait: _delay,
    ops.Hold: Apart.FIRST_STEP,
    ops.Outputs: Apart.OUTPUTS,
    ops.SpikingNeuron: spiking_neuron,
    ops.LIFNeuron: lif_neuron,
    ops.BernoulliNeuron: bernoulli_neuron,
    **functions.RULES,
    **normalisation.RULES,
}
"""Kind -> rule."""

VOCABULARY = Vocabulary("the ONNX exporter", _RULES, OPERATORS, ESTIMATORS)
"""Every kind that has a rule."""

WRITTEN = frozenset(
    (
        *("Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Conv", "Div", "Equal", "Flatten", "Floor"),
        *("ArgMax", "ConvTranspose", "Expand", "Min", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("Gather", "Gemm", "Greater", "GreaterOrEqual", "Identity", "If", "IsNaN", "MatMul", "Max", "MaxPool", "Mod"),
        *("Mul", "Pad", "Range", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Squeeze", "Sub"),
        *("TopK", "Transpose", "Unsqueeze", "Where"),
        *events.WRITTEN,
        *functions.WRITTEN,
        *normalisation.WRITTEN,
    )
)
"""The operators of ONNX that rules write, here and in this room; a file that holds another one is not ours."""
