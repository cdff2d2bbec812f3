"""A chain of blocks in float64, from the equations: T x T matrices for neurons, torch for convolutions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from psu_deploy.exporters.integers.real_network import Gate, RealDense
from psu_deploy.machine import Node, StateMachine, ops
from tests.helpers import decide
from tests.oracles import output_of


def machine(features, *layers):
    """Layers one after the other, named `l0`, `l1`, ..."""
    names = [f"l{index}" for index in range(len(layers))]
    nodes = zip(names, layers, ["x", *names], strict=False)
    return StateMachine(tuple(Node(name, layer, (before,)) for name, layer, before in nodes), features)


def run(chain, x):
    """What every block of a chain sends, (T, B, *shape) each, and what the decoder makes of the last."""
    x = x.reshape(*x.shape[:2], *chain.input_shape)
    sent = []
    for block in chain.blocks:
        assert (block.flatten and x.ndim == 5) or x.ndim == (3 if isinstance(block.synapse, RealDense) else 5)
        x = neuron(block.neuron, synapse(block.synapse, x))
        assert x.shape[2:] == block.shape
        sent.append(x)
    return sent, read_out(chain.readout, x)


def read_out(kind, y):
    """What a decoder says at every step."""
    return output_of(ops.Readout(kind), y)


def synapse(part, x):
    """(T, B, *features) -> (T, B, *shape)."""
    if isinstance(part, RealDense):
        return x.reshape(*x.shape[:2], -1) @ part.weight.T + part.bias
    weight, bias = (torch.from_numpy(np.array(v)) for v in (part.weight, part.bias))
    y = F.conv2d(torch.from_numpy(x).flatten(0, 1), weight, bias, part.stride, part.padding, part.dilation, part.groups)
    return y.numpy().reshape(*x.shape[:2], *y.shape[1:])


def neuron(layer, a):
    """Spikes, or numbers, of all steps."""
    match layer:
        case None:
            return a
        case Gate():
            return decide(a, ">")
    return output_of(layer, a)
