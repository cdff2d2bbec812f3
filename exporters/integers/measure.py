"""Runs the machine and its integer network on the same data, and writes down what rounding did."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from psu_deploy.exporters.integers.fixed_point import STATE_MAX, State, state_words
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.exporters.integers.network import Conv, IntegerNetwork, Integers
from psu_deploy.exporters.integers.neurons import CUBA_FRACTION_BITS, time_constant_error
from psu_deploy.exporters.integers.quantise import Choice
from psu_deploy.exporters.integers.real_network import Chain
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.exporters.integers.report import LayerReport, QuantisationReport
from psu_deploy.machine import StateMachine

_AT_ONCE = 4_000_000
"""Spikes of both runs held in memory at a time."""

STATE_WORDS = 32
"""24-bit words of state up to which a neuron counts as made for a chip. A limit of ours: a core of Loihi 2 shares its
memory between its neurons, and a learned T x T matrix needs T words of it per neuron, and T^2 coefficients."""

_PERCENTILE = 99.9


class _Tally:
    """What was counted of one layer, over all parts of the batch."""

    def __init__(self) -> None:
        self.compared = self.flips = self.before = self.after = 0
        self.fired_before: Any = 0
        self.fired_after: Any = 0
        self.largest = 0.0
        self.percentile = 0.0

    def spikes(self, expected: Any, found: Any) -> None:
        self.compared += found.size
        self.flips += int((expected != found).sum())
        self.before += int(expected.sum())
        self.after += int(found.sum())
        self.fired_before = self.fired_before + expected.sum((0, 1))
        self.fired_after = self.fired_after + found.sum((0, 1))

    def state(self, potential: Integers) -> None:
        size = np.abs(potential)
        self.largest = max(self.largest, float(size.max()))
        self.percentile = max(self.percentile, float(np.percentile(size, _PERCENTILE)))


def measure(
    machine: StateMachine, chain: Chain, network: IntegerNetwork, choices: Sequence[Choice], x: Any
) -> QuantisationReport:
    """The report of a network on calibration data.

    Args:
        machine: what it was made from.
        chain: in real numbers.
        network: in whole numbers.
        choices: how every layer came out.
        x: (T, B, *features), float32.
    """
    tallies = [_Tally() for _ in network.layers]
    neurons = sum(prod(machine.shapes[name]) for name in machine.spiking)
    part = max(1, _AT_ONCE // max(1, neurons * len(x)))
    for start in range(0, x.shape[1], part):
        _count(machine, network, x[:, start : start + part], tallies)
    layers = tuple(map(_layer, chain.blocks, choices, tallies))
    compared = sum(tally.compared for tally in tallies)
    code = network.code
    error = np.abs(x.reshape(*x.shape[:2], *network.input_shape) - encode(network, x) * code.unit).max()
    flips = sum(tally.flips for tally in tallies) / max(1, compared)
    levels = (code.low, code.high)
    return QuantisationReport(
        layers, len(x), x.shape[1], compared, flips, code.unit, levels, float(error), network.horizon
    )


def _count(machine: StateMachine, network: IntegerNetwork, x: Any, tallies: Sequence[_Tally]) -> None:
    def observe(index: int, state: State) -> None:
        if "V" in state and state["V"].size:
            tallies[index].state(state["V"])

    expected = machine.trace(x).spikes
    sent = Reference(network, x.shape[1]).advance(encode(network, x), observe)
    for layer, numbers, tally in zip(network.layers, sent, tallies, strict=True):
        if layer.name in expected:
            tally.spikes(expected[layer.name], numbers.reshape(expected[layer.name].shape))


def unmeasured(block: Any, choice: Choice) -> LayerReport:
    """The report of a layer that has not run: what follows from its numbers."""
    return _layer(block, choice, _Tally())


def _layer(block: Any, choice: Choice, tally: _Tally) -> LayerReport:
    layer, scale = choice.layer, choice.scale
    weight, whole = block.synapse.weight, layer.synapse.weight
    error = np.linalg.norm(weight - scale.reshape(-1, *[1] * (weight.ndim - 1)) * whole)
    words = state_words(layer.neuron)
    spiking = tally.compared > 0
    fell_silent = np.asarray((tally.fired_before > 0) & (tally.fired_after == 0)).mean() if spiking else 0.0
    return LayerReport(
        name=layer.name,
        kind=_kind(layer),
        weight_bits=choice.bits,
        scale=(float(scale.min()), float(scale.max())),
        weight_error=float(error / (np.linalg.norm(weight) or 1.0)),
        fraction_bits=getattr(layer.neuron, "fraction_bits", CUBA_FRACTION_BITS),
        bound=max(choice.bounds.values()) / STATE_MAX,
        observed=tally.largest / STATE_MAX,
        percentile=tally.percentile / STATE_MAX,
        saturated=float((np.abs(whole) == np.abs(whole).max()).mean()),
        firing_before=tally.before / tally.compared if spiking else None,
        firing_after=tally.after / tally.compared if spiking else None,
        flip_rate=tally.flips / tally.compared if spiking else None,
        dead=float(fell_silent),
        words=words,
        simulation_only=words > STATE_WORDS,
        time_constant_error=time_constant_error(block.neuron),
    )


def _kind(layer: Any) -> str:
    neuron = type(layer.neuron).__name__.upper()
    if isinstance(layer.synapse, Conv):
        outputs, inputs, *kernel = layer.synapse.weight.shape
        size = "x".join(map(str, kernel))
        return f"conv {inputs * layer.synapse.groups} -> {outputs}, {size}, {neuron}"
    outputs, inputs = layer.synapse.weight.shape
    return f"dense {inputs} -> {outputs}, {neuron}"
