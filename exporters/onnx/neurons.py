"""Neuron layers -> ONNX nodes for one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from psu_deploy.exporters.onnx.operators import advance
from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops
from psu_deploy.numerics import sigmoid_table
from psu_deploy.numerics.noise import BITS_DROPPED, PRIME, SALTS, SCALE


@dataclass(frozen=True)
class NeuronValues:
    """The values of one neuron layer, for whoever wants to look inside.

    Attributes:
        spikes: S.
        potential: V.
        reset: R; None where the neuron has no reset.
        threshold: V_th.
        margin: what decides, where that is not V - R - V_th; None = it is.
    """

    spikes: ir.Value
    potential: ir.Value
    reset: ir.Value | None
    threshold: float
    margin: ir.Value | None = None


def spiking_neuron(layer: ops.SpikingNeuron, inputs: Sequence[ir.Value], scope: Scope) -> NeuronValues:
    """V, R and S of a neuron of the PSU family."""
    b, name, current = scope.builder, scope.name, inputs[0]
    potential = advance(layer.integrate, "V", current, scope)
    difference, reset = potential, None
    if layer.reset is not None:
        estimated = potential if layer.estimate is None else advance(layer.estimate, "E", current, scope)
        estimated_spikes = ESTIMATORS[type(layer.estimator)](layer.estimator, estimated, scope)
        reset = advance(layer.reset, "R", estimated_spikes, scope)
        difference = b.op("Sub", potential, reset, name=f"{name}.difference")
    spikes = _fire(difference, layer.threshold, layer.fire_on, scope)
    return NeuronValues(spikes, potential, reset, layer.threshold)


def _sigmoid(estimator: ops.Sigmoid, value: ir.Value, scope: Scope) -> ir.Value:
    return scope.builder.op("Sigmoid", value, name=f"{scope.name}.estimated_spikes")


def _raw_current(estimator: ops.RawCurrent, value: ir.Value, scope: Scope) -> ir.Value:
    return value


def _staircase(estimator: ops.Staircase, value: ir.Value, scope: Scope) -> ir.Value:
    """Every E meets all thresholds on an axis of their own, the last; a count of ones is exact in float32."""
    b, name = scope.builder, f"{scope.name}.staircase"
    last = b.integers([-1], "axis_last")
    wide = b.op("Unsqueeze", value, last, name=f"{name}.wide")
    reached = b.op("GreaterOrEqual", wide, b.floats(estimator.thresholds, f"{name}.thresholds"), name=f"{name}.reached")
    ones = b.op("Cast", reached, name=f"{name}.ones", to=int(ir.DataType.FLOAT))
    count = b.op("ReduceSum", ones, last, name=f"{name}.count", keepdims=0)
    risen = b.op("Mul", count, b.floats(estimator.height, f"{name}.height"), name=f"{name}.risen")
    offset = b.floats(estimator.offset, f"{name}.offset")
    return b.op("Add", risen, offset, name=f"{scope.name}.estimated_spikes")


def _sigmoid_table(estimator: ops.SigmoidTable, value: ir.Value, scope: Scope) -> ir.Value:
    """The table at floor(1024 E). What is no number stays none: it has no place in the table, and takes the first."""
    b, name = scope.builder, f"{scope.name}.sigmoid_table"
    scaled = b.op("Mul", value, b.floats(sigmoid_table.PER_UNIT, f"{name}.per_unit"), name=f"{name}.scaled")
    first, last = b.floats(sigmoid_table.FIRST, f"{name}.first"), b.floats(sigmoid_table.LAST, f"{name}.last")
    inside = b.op("Clip", b.op("Floor", scaled, name=f"{name}.floor"), first, last, name=f"{name}.inside")
    unknown = b.op("IsNaN", value, name=f"{name}.unknown")
    shifted = b.op("Sub", inside, first, name=f"{name}.shifted")
    known = b.op("Where", unknown, b.floats(0.0, f"{name}.zero"), shifted, name=f"{name}.known")
    place = b.op("Cast", known, name=f"{name}.place", to=int(ir.DataType.INT64))
    found = b.op("Gather", b.floats(sigmoid_table.VALUES, "sigmoid_table"), place, name=f"{name}.found")
    return b.op("Where", unknown, value, found, name=f"{scope.name}.estimated_spikes")


ESTIMATORS: dict[type, Callable[[Any, ir.Value, Scope], ir.Value]] = {
    ops.Sigmoid: _sigmoid,
    ops.RawCurrent: _raw_current,
    ops.Staircase: _staircase,
    ops.SigmoidTable: _sigmoid_table,
}
"""Kind -> rule: the estimated spike S' of every E."""


def lif_neuron(layer: ops.LIFNeuron, inputs: Sequence[ir.Value], scope: Scope) -> NeuronValues:
    """In the order of the reference interpreter, so that both round alike."""
    b, name, before, current = scope.builder, scope.name, scope.state("V"), inputs[0]
    if layer.tau is None:
        potential = b.op("Add", before, current, name=f"{name}.H")
    elif layer.decay_input:
        drive = b.op("Sub", current, before, name=f"{name}.drive")
        potential = b.op("Add", before, _divided(drive, layer.tau, scope), name=f"{name}.H")
    else:
        decayed = b.op("Sub", before, _divided(before, layer.tau, scope), name=f"{name}.decayed")
        potential = b.op("Add", decayed, current, name=f"{name}.H")
    spikes = _fire(potential, layer.threshold, layer.fire_on, scope)
    if layer.reset == "soft":
        taken = b.op("Mul", spikes, b.floats(layer.threshold, f"{name}.threshold"), name=f"{name}.taken")
        after = b.op("Sub", potential, taken, name=f"{name}.V.after")
    else:
        silent = b.op("Sub", b.floats(1.0, f"{name}.one"), spikes, name=f"{name}.silent")
        after = b.op("Mul", potential, silent, name=f"{name}.V.after")
    scope.set_state("V", after)
    return NeuronValues(spikes, potential, None, layer.threshold)


def _divided(value: ir.Value, tau: float, scope: Scope) -> ir.Value:
    b = scope.builder
    return b.op("Div", value, b.floats(tau, f"{scope.name}.tau"), name=f"{scope.name}.change")


def bernoulli_neuron(layer: ops.BernoulliNeuron, inputs: Sequence[ir.Value], scope: Scope) -> NeuronValues:
    """A neuron that fires at random, from the noise that every form of it draws."""
    b, name, current = scope.builder, scope.name, inputs[0]
    potential = advance(layer.integrate, "V", current, scope)
    probability = b.op("Sigmoid", potential, name=f"{name}.probability")
    margin = b.op("Sub", probability, _uniform(layer.seed, scope, current), name=f"{name}.margin")
    return NeuronValues(_fire(margin, 0.0, ">", scope), potential, None, 0.0, margin)


def _uniform(seed: int, scope: Scope, current: ir.Value) -> ir.Value:
    """`psu_deploy.numerics.noise.uniform` in integers of 64 bits, (B, *features)."""
    b, name = scope.builder, f"{scope.name}.noise"
    prime = b.integers(PRIME, "prime")

    def mod(value: ir.Value) -> ir.Value:
        return b.op("Mod", value, prime, name=f"{name}.mod")

    def times(first: ir.Value, second: ir.Value) -> ir.Value:
        return mod(b.op("Mul", first, second, name=f"{name}.product"))

    mixed = mod(_neuron_numbers(scope, current))
    salts = [b.integers(salt, f"{name}.salt") for salt in SALTS]
    for key in (salts[0], mod(scope.counter()), salts[1], b.integers(seed % PRIME, f"{name}.seed"), salts[2]):
        keyed = mod(b.op("Add", mixed, key, name=f"{name}.keyed"))
        square = times(keyed, keyed)
        mixed = times(times(square, square), keyed)
    kept = b.op("Div", mixed, b.integers(2**BITS_DROPPED, f"{name}.dropped"), name=f"{name}.kept")
    drawn = b.op("Cast", kept, name=f"{name}.drawn", to=int(ir.DataType.FLOAT))
    return b.op("Mul", drawn, b.floats(SCALE, f"{name}.scale"), name=name)


def _neuron_numbers(scope: Scope, current: ir.Value) -> ir.Value:
    """0, 1, 2, ... over all neurons of all samples, int64, (B, *features)."""
    b, name, neurons = scope.builder, f"{scope.name}.noise", prod(scope.features)
    batch = b.op("Squeeze", b.op("Shape", current, name=f"{name}.shape", start=0, end=1), name=f"{name}.batch")
    sample = b.op("Range", b.integers(0, "first"), batch, b.integers(1, "one"), name=f"{name}.samples")
    column = b.integers([-1, *[1] * len(scope.features)], f"{name}.column")
    sample = b.op("Reshape", sample, column, name=f"{name}.sample")
    first = b.op("Mul", sample, b.integers(neurons, f"{name}.neurons"), name=f"{name}.first")
    index = b.integers(np.arange(neurons).reshape(1, *scope.features), f"{name}.index")
    return b.op("Add", first, index, name=f"{name}.number")


def _fire(value: ir.Value, threshold: float, fire_on: str, scope: Scope) -> ir.Value:
    """1.0 where the value reaches (or exceeds) the threshold; 0.0 elsewhere, and before the layer has started."""
    b, name = scope.builder, scope.name
    compare = "GreaterOrEqual" if fire_on == ">=" else "Greater"
    fired = b.op(compare, value, b.floats(threshold, f"{name}.threshold"), name=f"{name}.fired")
    if scope.start:
        fired = b.op("And", fired, scope.reached(scope.start), name=f"{name}.fired_in_time")
    return b.op("Cast", fired, name=f"{name}.S", to=int(ir.DataType.FLOAT))
