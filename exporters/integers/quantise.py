"""Chain of blocks -> integer network: eight bits per weight, one scale per channel, and no state that can overflow.

    w = rint(W / s),   s = max|W| / (2^(bits-1) - 1)      per output channel
    b = rint(bias / (s * unit of the input)), with the fraction bits of the state where the neuron takes them

With the most bits first, and the most fraction bits in the states, the first choice is taken whose intervals all stay
inside 24 bits: that is a proof, not a measurement. Where none does, the layer is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.exporters.integers import neurons as integer_neurons
from psu_deploy.exporters.integers.bounds import (
    SPIKES,
    fits,
    largest,
    neuron_intervals,
    sent_interval,
    synapse_interval,
)
from psu_deploy.exporters.integers.fixed_point import STATE_MAX
from psu_deploy.exporters.integers.network import (
    Conv,
    Cuba,
    Dense,
    InputCode,
    IntegerLayer,
    IntegerNetwork,
    Integers,
    Neuron,
)
from psu_deploy.exporters.integers.neurons import NotRepresentableError, Units
from psu_deploy.exporters.integers.real_network import Block, Chain, Gate, RealDense
from psu_deploy.exporters.integers.real_operators import form_of, reset_of
from psu_deploy.machine import ops

BITS = (8, 7, 6, 5, 4, 3)
"""Of a weight, tried in this order."""

FRACTION_BITS = (8, 7, 6, 5, 4, 3, 2, 1, 0)
"""Fraction bits of a state, tried in this order."""

_RESERVE = 2.0**20
"""Thresholds, resets and biases may be this many units large, so that they fit beside what is summed."""

_SHARED = 4
"""How much louder than another a channel may be where one scale serves all: two bits are lost at most."""


@dataclass(frozen=True)
class Choice:
    """How a layer came out.

    Attributes:
        layer: in whole numbers.
        unit: (C,), what one of its results is worth, where it sends numbers; 1 for spikes.
        scale: (C,), what one of its weights is worth.
        bits: of a weight.
        bounds: name of a state -> the largest magnitude it can ever have.
        sent: the smallest and the largest of its results.
    """

    layer: IntegerLayer
    unit: Units
    scale: Units
    bits: int
    bounds: dict[str, float]
    sent: tuple[float, float]


def quantise(chain: Chain, code: InputCode, horizon: int | None, steps: int) -> tuple[IntegerNetwork, list[Choice]]:
    """The chain in whole numbers.

    Args:
        chain: in real numbers.
        code: of the input.
        horizon: of the machine; None = any number of steps.
        steps: of the calibration data; the horizon of a network whose states have no room to grow for ever, because
            they leak too little or not at all.

    Raises:
        UnsupportedModelError: naming every layer whose states do not fit into 24 bits.
    """
    choices: list[Choice] = []
    limited = False
    problems: list[Problem] = []
    low, high, unit = float(code.low), float(code.high), code.unit
    for block in chain.blocks:
        choice = _choose(block, low, high, unit, horizon)
        if choice is None and horizon is None:  # for ever is too long; and so it is for all layers
            choice, limited = _choose(block, low, high, unit, steps), True
        if choice is None:
            problems.append(_too_large(block, low, high, unit, steps if horizon is None else horizon))
            low, high, unit = *SPIKES, 1.0
            continue
        choices.append(choice)
        low, high = choice.sent
        unit = float(choice.unit.max())
    if problems:
        raise UnsupportedModelError(problems, "export to Lava")
    if limited:
        horizon = steps
    layers = tuple(choice.layer for choice in choices)
    return IntegerNetwork(layers, chain.input_shape, code, horizon, choices[-1].unit), choices


def _choose(block: Block, low: float, high: float, unit: float, steps: int | None) -> Choice | None:
    for bits in BITS:
        scale = _scales(block, bits, unit)
        for form in _forms(block, scale * unit):
            synapse = _whole_synapse(block, scale, form.bias)
            a = synapse_interval(synapse, low, high)
            bounds = {"a": a, **neuron_intervals(form.neuron, a, steps)}
            if fits(bounds):
                layer = IntegerLayer(block.name, synapse, form.neuron, block.shape, block.flatten)
                sizes = {name: largest(interval) for name, interval in bounds.items()}
                return Choice(layer, form.unit, scale, bits, sizes, sent_interval(form.neuron, bounds))
    return None


class _Form(NamedTuple):
    """What a block's neuron can be, what one of its results is worth, and the bias before it."""

    neuron: Neuron
    unit: Units
    bias: Integers


def _forms(block: Block, a_unit: Units) -> Iterator[_Form]:
    """Best first."""
    spikes, neuron = np.ones(1), block.neuron
    whole = np.rint(block.synapse.bias / a_unit).astype(np.int64)
    if isinstance(neuron, Gate):
        yield _Form(Cuba(0, 0), spikes, whole)
        return
    if isinstance(neuron, ops.LIFNeuron) and len(np.unique(a_unit)) == 1:
        found = integer_neurons.cuba(neuron, float(a_unit[0]), whole)
        if found is not None:
            yield _Form(found, spikes, whole)
    for fraction_bits in FRACTION_BITS if neuron is not None or block.synapse.bias.any() else (0,):
        bias = np.rint(block.synapse.bias / a_unit * 2**fraction_bits).astype(np.int64)
        before, given = bias >> fraction_bits, (a_unit, fraction_bits, bias & (2**fraction_bits - 1))
        try:
            match neuron:
                case ops.SpikingNeuron():
                    yield _Form(integer_neurons.psu(neuron, *given), spikes, before)
                case ops.LIFNeuron():
                    yield _Form(integer_neurons.lif(neuron, *given), spikes, before)
                case ops.Filter(operator=operator):
                    yield _Form(*integer_neurons.relay(operator, *given), before)
                case None:
                    yield _Form(*integer_neurons.relay(None, *given), before)
        except NotRepresentableError:
            continue


def _whole_synapse(block: Block, scale: Units, bias: Integers) -> Dense | Conv:
    real = block.synapse
    weight = np.rint(real.weight / scale.reshape(-1, *[1] * (real.weight.ndim - 1))).astype(np.int64)
    if isinstance(real, RealDense):
        return Dense(weight, bias)
    return Conv(weight, bias, real.stride, real.padding, real.dilation, real.groups)


def _scales(block: Block, bits: int, unit: float) -> Units:
    """What one unit of a weight is worth, per channel; one for all where lava's own LIF can come behind."""
    weight, bias, neuron = block.synapse.weight, block.synapse.bias, block.neuron
    rows = np.abs(weight.reshape(len(weight), -1))
    sizes = np.unique(rows[rows > 0])
    ones = len(sizes) == 1 and not bias.any()  # identities and poolings are exact
    scale = np.full(len(rows), sizes[0]) if ones else rows.max(1) / (2 ** (bits - 1) - 1)
    scale = np.maximum(scale, np.maximum(_beside(neuron), np.abs(bias)) / (unit * _RESERVE))
    if isinstance(neuron, ops.LIFNeuron) and neuron.reset == "hard" and _may_share(scale):
        scale = np.full_like(scale, scale.max())
    return np.where(scale > 0, scale, scale.max() or 1.0)


def _may_share(scale: Units) -> bool:
    """Whether one scale for all leaves every channel most of its bits: lava's own LIF has one threshold for all."""
    alive = scale[scale > 0]
    return bool(len(alive) == 0 or alive.max() <= _SHARED * alive.min())


def _beside(neuron: Any) -> float:
    """The largest number that stands beside the summed input, counted as input."""
    if isinstance(neuron, ops.LIFNeuron):
        share = 1.0 / neuron.tau if neuron.tau is not None and neuron.decay_input else 1.0
        return abs(neuron.threshold) / share
    if isinstance(neuron, ops.SpikingNeuron):
        reset = 0.0 if neuron.reset is None else reset_of(neuron.reset).largest
        return max(abs(neuron.threshold), reset) / form_of(neuron.integrate).largest
    return 0.0


def _too_large(block: Block, low: float, high: float, unit: float, steps: int | None) -> Problem:
    scale = _scales(block, BITS[-1], unit)
    synapse = _whole_synapse(block, scale, np.rint(block.synapse.bias / (scale * unit)).astype(np.int64))
    size = largest(synapse_interval(synapse, low, high))
    reason = (
        f"its states do not fit into 24 bits: with {BITS[-1]}-bit weights the summed input alone can reach {size:,.0f} "
        f"of {STATE_MAX:,}" + ("" if steps is None else f", over {steps} steps")
    )
    remedy = "scale the input down, use fewer inputs per neuron, or a threshold nearer to what is summed"
    return Problem(block.name, type(block.neuron).__name__, reason, remedy)
