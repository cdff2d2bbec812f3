"""A chain of blocks in float64, from the equations: T x T matrices for neurons, torch for convolutions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from psu_deploy.exporters.lava.real_network import Gate, RealDense
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from tests.helpers import RawLIF, apply, decide, leak_matrix, per_step, sigmoid, strict_leak_matrix


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
    """A decoder, by its definition."""
    total = np.cumsum(y, axis=0)
    return {"last": y, "sum": total, "mean": total / per_step(np.arange(1, len(y) + 1), y)}[kind]


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
        case ops.Filter(operator=operator):
            return filtered(operator, a)
        case ops.LIFNeuron():
            tau = np.inf if layer.tau is None else layer.tau
            return RawLIF(tau, layer.threshold, layer.reset, layer.decay_input, layer.fire_on)(a)[2]
    V = filtered(layer.integrate, a)
    R = 0.0
    if layer.reset is not None:
        E = V if layer.estimate is None else filtered(layer.estimate, a)
        R = filtered(layer.reset, estimated(layer.estimator, E))
    return decide(V - R - layer.threshold, layer.fire_on)


def filtered(operator, x):
    """A causal operator as its matrix."""
    A, b = matrix(operator, len(x))
    return apply(A, x) + per_step(b, x)


def matrix(operator, T):
    """(T, T) and (T,)."""
    none = np.zeros(T)
    match operator:
        case o.Identity():
            return np.eye(T), none
        case o.StrictLeak(gain, decay):
            return strict_leak_matrix(T, gain, decay), none
        case o.Leak(gain, decay):
            return leak_matrix(T, gain, decay), none
        case o.Exponentials(gains, decays, bias):
            parts = [leak_matrix(T, gain, decay) for gain, decay in zip(gains, decays, strict=True)]
            return np.sum(parts, axis=0), none + bias
        case o.PartialSums(A, b):
            return A[:T, :T], b[:T]
    A = np.zeros((T, T))
    for t in range(T):
        row = 0 if operator.time_invariant else t
        for lag in range(min(operator.order, T - t)):
            A[t + lag, t] = operator.columns[row, lag]
    return A, none + (operator.bias if operator.time_invariant else operator.bias[:T])


def estimated(estimator, E):
    """S' of E."""
    match estimator:
        case o.Sigmoid():
            return sigmoid(E)
        case o.RawCurrent():
            return E
        case o.Staircase(thresholds, height, offset):
            return offset + height * sum((level <= E).astype(float) for level in thresholds)
    knots = np.rint(4096 * sigmoid(np.arange(-32, 33) / 4))
    u = (np.clip(np.floor(E * 1024), -8192, 8191) + 8192).astype(int)
    i, f = u // 256, u % 256
    return (knots[i] + np.floor((knots[np.minimum(i + 1, 64)] - knots[i]) * f / 256)) / 4096
