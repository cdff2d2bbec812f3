"""Runs of a machine in float32 by engines that are as different as runtimes may be, and what came out otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from psu_deploy.machine import Node, StateMachine, ops
from tests.helpers import noise


def run(machine, engine, x):
    """Margins of every neuron layer in an engine that follows its own spikes, (T, B, *features)."""
    values, margins = {"x": np.float64(x)}, {}
    for node in machine.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.layer, ops.Neuron):
            drawn = noise(node.layer.seed, inputs[0].shape) if isinstance(node.layer, ops.BernoulliNeuron) else None
            margins[node.name], fired = engine.neuron(node.layer, inputs[0], drawn)
            values[node.name] = np.float64(fired)
        elif len(inputs) > 1:
            values[node.name] = engine.elementwise(node.layer, inputs)
        else:
            values[node.name] = engine.layer(node.layer, inputs[0])
    return margins, {name: values[name] for name in margins}


def beyond(certificate, margins):
    """How far margins are off, as a share of their bounds, at most; of a certificate without cases."""
    worst = 0.0
    for layer in certificate.layers:
        known = np.isfinite(layer.bound) & (layer.bound > 0)
        off = np.abs(margins[layer.name] - layer.margin)
        assert not off[layer.bound == 0].any(), layer
        worst = max(worst, float((off[known] / layer.bound[known]).max(initial=0.0)))
    return worst


def flips(certificate, spikes, fire_on):
    """Certified decisions that came out otherwise, and decisions in all."""
    wrong = 0
    for layer in certificate.layers:
        fires = layer.margin >= 0 if fire_on[layer.name] == ">=" else layer.margin > 0
        wrong += int(((fires != (spikes[layer.name] != 0)) & layer.certified).sum())
    return wrong


def signs(machine):
    """How every neuron layer compares."""
    return {n.name: getattr(n.layer, "fire_on", ">") for n in machine.nodes if isinstance(n.layer, ops.Neuron)}


def on_edge(machine, x, seed=0):
    """The same machine with thresholds moved onto what some decision of each layer compares: knife edges in all of them."""
    random = np.random.default_rng(seed)
    for name in machine.spiking:
        layer = next(node.layer for node in machine.nodes if node.name == name)
        if isinstance(layer, ops.BernoulliNeuron):
            continue
        margin = machine.trace(np.float64(x)).margin[name]
        chosen = float(random.choice(margin[np.abs(margin) < 0.5].ravel() if (np.abs(margin) < 0.5).any() else [0.0]))
        moved = replace(layer, threshold=layer.threshold + chosen + 1e-9)
        nodes = [Node(n.name, moved if n.name == name else n.layer, n.inputs) for n in machine.nodes]
        machine = StateMachine(tuple(nodes), machine.input_shape, machine.output)
    return machine
