"""Layers of the state machine -> ONNX nodes for one step, in the order of the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from psu_deploy.errors import InternalError
from psu_deploy.exporters.onnx.operators import advance
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import operators, ops


@dataclass(frozen=True)
class NeuronValues:
    """The values of one neuron layer, for whoever wants to look inside.

    Attributes:
        spikes: S.
        potential: V.
        reset: R; None where the neuron has no reset.
        threshold: V_th.
    """

    spikes: ir.Value
    potential: ir.Value
    reset: ir.Value | None
    threshold: float


@dataclass(frozen=True)
class Lowered:
    """Result of lowering one layer.

    Attributes:
        value: the layer's output.
        neuron: what is inside, if the layer is a neuron layer.
    """

    value: ir.Value
    neuron: NeuronValues | None = None


def lower(layer: ops.Layer, inputs: Sequence[ir.Value], scope: Scope) -> Lowered:
    """Append the nodes of one step of a layer."""
    if isinstance(layer, ops.SpikingNeuron):
        return _spiking_neuron(layer, inputs[0], scope)
    for kind, rule in _RULES.items():
        if isinstance(layer, kind):
            return Lowered(rule(layer, inputs, scope))
    raise InternalError(f"the ONNX exporter has no rule for {type(layer).__name__}")


def _linear(layer: ops.Linear, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    if len(scope.features) == 1:
        weight = b.floats(layer.weight, f"{name}.weight")
        bias = None if layer.bias is None else b.floats(layer.bias, f"{name}.bias")
        operands = (inputs[0], weight) if bias is None else (inputs[0], weight, bias)
        return b.op("Gemm", *operands, name=name, transB=1)
    product = b.op("MatMul", inputs[0], b.floats(layer.weight.T, f"{name}.weight"), name=name)
    return product if layer.bias is None else b.op("Add", product, b.floats(layer.bias, f"{name}.bias"), name=name)


def _conv(layer: Any, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    operands = [inputs[0], b.floats(layer.weight, f"{name}.weight")]
    if layer.bias is not None:
        operands.append(b.floats(layer.bias, f"{name}.bias"))
    return b.op(
        "Conv",
        *operands,
        name=name,
        kernel_shape=list(layer.weight.shape[2:]),
        strides=list(layer.stride),
        pads=_pads(layer.padding),
        dilations=list(layer.dilation),
        group=layer.groups,
    )


def _channel_affine(layer: ops.ChannelAffine, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    channels = (-1, *[1] * (len(scope.features) - 1))
    scaled = b.op("Mul", inputs[0], b.floats(layer.scale.reshape(channels), f"{name}.scale"), name=f"{name}.scaled")
    return b.op("Add", scaled, b.floats(layer.shift.reshape(channels), f"{name}.shift"), name=name)


def _avg_pool(layer: ops.AvgPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    count = int(layer.count_padding)
    return scope.builder.op("AveragePool", inputs[0], name=scope.name, count_include_pad=count, **_window(layer))


def _sum_pool(layer: ops.SumPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """A convolution with ones, channel by channel: a mean times its size would round."""
    b, name, channels = scope.builder, scope.name, scope.features[0]
    ones = b.floats(np.ones((channels, 1, *layer.kernel)), f"{name}.ones")
    return b.op("Conv", inputs[0], ones, name=name, group=channels, **_window(layer))


def _max_pool(layer: ops.MaxPool, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return scope.builder.op("MaxPool", inputs[0], name=scope.name, **_window(layer))


def _flatten(layer: ops.Flatten, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return scope.builder.op("Flatten", inputs[0], name=scope.name, axis=1)


def _add(layer: ops.Add, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    total = inputs[0]
    for term in inputs[1:]:
        total = scope.builder.op("Add", total, term, name=scope.name)
    return total


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


def _readout(layer: ops.Readout, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    b, name = scope.builder, scope.name
    if layer.kind == "last":
        return inputs[0]
    total = b.op("Add", scope.state("sum"), inputs[0], name=f"{name}.total")
    scope.set_state("sum", total)
    if layer.kind == "sum":
        return total
    return b.op("Div", total, scope.steps_done(), name=name)


def _spiking_neuron(layer: ops.SpikingNeuron, current: ir.Value, scope: Scope) -> Lowered:
    b, name = scope.builder, scope.name
    potential = advance(layer.integrate, "V", current, scope)
    difference, reset = potential, None
    if layer.reset is not None:
        estimated = potential if layer.estimate is None else advance(layer.estimate, "E", current, scope)
        if isinstance(layer.estimator, operators.Sigmoid):
            estimated = b.op("Sigmoid", estimated, name=f"{name}.estimated_spikes")
        reset = advance(layer.reset, "R", estimated, scope)
        difference = b.op("Sub", potential, reset, name=f"{name}.difference")
    compare = "GreaterOrEqual" if layer.fire_on == ">=" else "Greater"
    fired = b.op(compare, difference, b.floats(layer.threshold, f"{name}.threshold"), name=f"{name}.fired")
    spikes = b.op("Cast", fired, name=f"{name}.S", to=int(ir.DataType.FLOAT))
    return Lowered(spikes, NeuronValues(spikes, potential, reset, layer.threshold))


def _window(layer: Any) -> dict[str, Any]:
    return {"kernel_shape": list(layer.kernel), "strides": list(layer.stride), "pads": _pads(layer.padding)}


def _pads(padding: ops.Padding) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


_RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Linear: _linear,
    ops.Conv1d: _conv,
    ops.Conv2d: _conv,
    ops.ChannelAffine: _channel_affine,
    ops.AvgPool: _avg_pool,
    ops.SumPool: _sum_pool,
    ops.MaxPool: _max_pool,
    ops.Flatten: _flatten,
    ops.Add: _add,
    ops.Delay: _delay,
    ops.Readout: _readout,
}
