"""Runs an integer network in numpy: the definition that Lava is held against, and quicker than it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.exporters.integers.fixed_point import STATE_MAX, State, fire, initial_state
from psu_deploy.exporters.integers.network import Conv, Dense, IntegerLayer, IntegerNetwork, Integers

_EXACT_IN_SINGLE = 2**24
"""Whole numbers up to here are float32 numbers, so products of matrices may be made in it."""

Observer = Callable[[int, State], None]
"""(layer, its state after a step)."""


class Reference:
    """An integer network and where it is in a sequence.

    Args:
        network: what to run.
        samples: B.
    """

    def __init__(self, network: IntegerNetwork, samples: int) -> None:
        self._network = network
        self._step = 0
        self._states = [initial_state(layer.neuron, samples, layer.shape) for layer in network.layers]

    def advance(self, x: Integers, observe: Observer | None = None) -> list[Integers]:
        """Go on by some steps, layer by layer: nothing feeds back.

        Args:
            x: whole numbers, (T, B, *input_shape).
            observe: sees every layer's state after every step.

        Returns:
            What every layer sent, (T, B, *shape) each; the last is the network's output.
        """
        sent = []
        for index, layer in enumerate(self._network.layers):
            currents = synapse_output(layer, x)
            rows = []
            for t, a in enumerate(currents):
                rows.append(fire(layer.neuron, a, self._states[index], self._step + t))
                if observe is not None:
                    observe(index, self._states[index])
            x = np.stack(rows)
            sent.append(x)
        self._step += len(x)
        return sent


def synapse_output(layer: IntegerLayer, x: Integers) -> Integers:
    """`saturate(W x) + b` of every step, (T, B, *features) -> (T, B, *shape)."""
    lead = x.shape[:2]
    flat = x.reshape(lead[0] * lead[1], *x.shape[2:])
    synapse = layer.synapse
    largest = int(np.abs(synapse.weight).reshape(len(synapse.weight), -1).sum(1).max()) * max(1, int(np.abs(x).max()))
    dtype = np.float32 if largest < _EXACT_IN_SINGLE else np.float64
    if isinstance(synapse, Dense):
        product = flat.reshape(len(flat), -1).astype(dtype) @ synapse.weight.T.astype(dtype)
    else:
        product = _convolve(synapse, flat.astype(dtype), layer.shape[1:])
    total = np.clip(product.astype(np.int64), -STATE_MAX, STATE_MAX)
    total += synapse.bias.reshape(-1, *[1] * (total.ndim - 2))
    result: Integers = total.reshape(*lead, *layer.shape)
    return result


def _convolve(conv: Conv, x: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """One matrix product per place of the kernel and group, so that nothing is copied but the image."""
    (pad_y, pad_x), groups = conv.padding, conv.groups
    padded = np.pad(x, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    outputs, inputs, kernel_y, kernel_x = conv.weight.shape
    weight = conv.weight.reshape(groups, outputs // groups, inputs, kernel_y, kernel_x).astype(x.dtype)
    total = np.zeros((len(x), groups, outputs // groups, size[0] * size[1]), x.dtype)
    for y, column in np.ndindex(kernel_y, kernel_x):
        rows = slice(y * conv.dilation[0], y * conv.dilation[0] + (size[0] - 1) * conv.stride[0] + 1, conv.stride[0])
        at = column * conv.dilation[1]
        columns = slice(at, at + (size[1] - 1) * conv.stride[1] + 1, conv.stride[1])
        seen = padded[:, :, rows, columns].reshape(len(x), groups, inputs, -1)
        total += weight[None, :, :, :, y, column] @ seen
    return total.reshape(len(x), outputs, *size)
