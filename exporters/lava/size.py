"""What one sample of an integer network takes, before any of it is allocated."""

from __future__ import annotations

from math import prod

from psu_deploy.exporters.lava.network import PSU, Conv, IntegerLayer, IntegerNetwork, Neuron, Operator, Relay, Sums
from psu_deploy.machine.ops.fields import Shape


def numbers_per_sample(network: IntegerNetwork) -> int:
    """Of states and of what the layers send, before and after a step; and of images with the zeros around them."""
    total, given = 2 * prod(network.input_shape), network.input_shape
    for layer in network.layers:
        total += 2 * prod(layer.shape) * (2 + _memory(layer.neuron)) + _padded(layer, given)
        given = layer.shape
    return total


def _memory(neuron: Neuron) -> int:
    """Numbers of state per neuron, generously."""
    parts: list[Operator | None] = []
    if isinstance(neuron, PSU):
        parts = [neuron.integrate, neuron.estimate, None if neuron.reset is None else neuron.reset.operator]
    elif isinstance(neuron, Relay):
        parts = [neuron.operator]
    return 1 + sum(_length(part) for part in parts if part is not None)


def _length(operator: Operator) -> int:
    return int(operator.columns.shape[1]) if isinstance(operator, Sums) else len(operator.decays)


def _padded(layer: IntegerLayer, given: Shape) -> int:
    if not isinstance(layer.synapse, Conv):
        return 0
    return given[0] * prod(n + 2 * p for n, p in zip(given[1:], layer.synapse.padding, strict=True))
