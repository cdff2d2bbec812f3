"""What one sample of an integer network takes, before any of it is allocated."""

from __future__ import annotations

from math import prod

from psu_deploy.exporters.integers.fixed_point import state_words
from psu_deploy.exporters.integers.network import Conv, IntegerLayer, IntegerNetwork
from psu_deploy.machine.ops.fields import Shape


def numbers_per_sample(network: IntegerNetwork) -> int:
    """Of states and of what the layers send, before and after a step; and of images with the zeros around them."""
    total, given = 2 * prod(network.input_shape), network.input_shape
    for layer in network.layers:
        total += 2 * prod(layer.shape) * (3 + state_words(layer.neuron)) + _padded(layer, given)
        given = layer.shape
    return total


def _padded(layer: IntegerLayer, given: Shape) -> int:
    if not isinstance(layer.synapse, Conv):
        return 0
    return given[0] * prod(n + 2 * p for n, p in zip(given[1:], layer.synapse.padding, strict=True))
