"""Oracle of the NIR tests: graphs as their readers run them, forward Euler in float64 numpy, edge by edge.

    v += dt/tau*(v_leak - v + r*x);   S = 1 if v > v_threshold else 0;   v = v_reset where S = 1

Convolutions and pools are torch's. Nothing here calls the package.
"""

from __future__ import annotations

import importlib
import os
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F


def optional(name):
    """A package of somebody else; without it its tests are skipped, unless it is said to be there."""
    required = name.split(".")[0] in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(",")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say while they are imported is theirs to mend
        return importlib.import_module(name) if required else pytest.importorskip(name)


class Later:
    """Such a package, imported when it is first used and not by everyone who collects tests: norse loads matplotlib."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(optional(self._name), attribute)


nir = optional("nir")


def graph(nodes, edges, **metadata):
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)


def chain(features, *nodes, out=None, **metadata):
    """Input -> n0 -> n1 ... -> Output."""
    out = run_shape(features, nodes) if out is None else out
    named = {"in": nir.Input(np.array(features))}
    named |= {f"n{i}": node for i, node in enumerate(nodes)}
    named["out"] = nir.Output(np.array(out))
    names = ["in", *[f"n{i}" for i in range(len(nodes))], "out"]
    return graph(named, list(pairwise(names)), **metadata)


def run_shape(features, nodes):
    x = np.zeros((1, *features))
    for node in nodes:
        x = advance(node, x, {}, 1.0)
    return x.shape[1:]


def simulate(net, x, dt, delayed=()):
    """Output of every step, and every node's value; edges in `delayed` bring the value of the step before."""
    state = {name: {} for name in net.nodes}
    before, seen = {}, []
    for now in x:
        values = {}

        def value(name, now=now, values=values, before=before):
            if name in values:
                return values[name]
            terms = [before.get(a, 0.0) if (a, b) in delayed else value(a) for a, b in net.edges if b == name]
            total = now if isinstance(net.nodes[name], nir.Input) else sum(terms)
            values[name] = advance(net.nodes[name], total, state[name], dt)
            return values[name]

        for name in net.nodes:
            value(name)
        before = values
        seen.append(values)
    (out,) = [name for name, node in net.nodes.items() if isinstance(node, nir.Output)]
    return np.stack([values[out] for values in seen]), {
        name: np.stack([values[name] for values in seen]) for name in net.nodes
    }


def p(node, name):
    return np.asarray(getattr(node, name), dtype=np.float64)


def advance(node, x, state, dt):
    """One step of one node."""
    match type(node).__name__:
        case "Input" | "Output":
            return x
        case "Affine":
            return x @ p(node, "weight").T + p(node, "bias")
        case "Linear":
            return x @ p(node, "weight").T
        case "Scale":
            return x * p(node, "scale")
        case "Conv1d" | "Conv2d" as kind:
            conv = F.conv1d if kind == "Conv1d" else F.conv2d
            pad = node.padding if isinstance(node.padding, str) else whole(node.padding)
            bias = None if node.bias is None else torch.tensor(p(node, "bias"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch copies the input where 'same' is uneven, and says so
                y = conv(
                    torch.tensor(x),
                    torch.tensor(p(node, "weight")),
                    bias,
                    whole(node.stride),
                    pad,
                    whole(node.dilation),
                    int(node.groups),
                )
            return y.numpy()
        case "SumPool2d" | "AvgPool2d" as kind:
            sizes = [whole(getattr(node, name)) for name in ("kernel_size", "stride", "padding")]
            mean = F.avg_pool2d(torch.tensor(x), *sizes).numpy()
            kernel = np.broadcast_to(node.kernel_size, 2)
            return mean * np.prod(kernel) if kind == "SumPool2d" else mean
        case "Flatten":
            return x.reshape(len(x), -1)
        case "Delay":
            steps = np.broadcast_to(np.rint(p(node, "delay") / dt), x.shape[1:])
            line = state.setdefault("line", [])
            line.insert(0, x)
            return sum(np.where(steps == age, past, 0.0) for age, past in enumerate(line))
        case "I":
            state["v"] = state.get("v", 0) + dt * p(node, "r") * x
            return state["v"]
        case "LI":
            return leak(state, "v", p(node, "tau"), p(node, "v_leak") + p(node, "r") * x, dt)
        case "CubaLI":
            i = leak(state, "i", p(node, "tau_syn"), p(node, "w_in") * x, dt)
            return leak(state, "v", p(node, "tau_mem"), p(node, "v_leak") + p(node, "r") * i, dt)
        case "Threshold":
            return (x > p(node, "threshold")).astype(float)
        case "IF":
            state.setdefault("v", p(node, "v_reset"))
            state["v"] = state["v"] + dt * p(node, "r") * x
            return fire(node, state)
        case "LIF":
            state.setdefault("v", p(node, "v_reset"))
            leak(state, "v", p(node, "tau"), p(node, "v_leak") + p(node, "r") * x, dt)
            return fire(node, state)
        case "CubaLIF":
            state.setdefault("v", p(node, "v_reset"))
            i = leak(state, "i", p(node, "tau_syn"), p(node, "w_in") * x, dt)
            leak(state, "v", p(node, "tau_mem"), p(node, "v_leak") + p(node, "r") * i, dt)
            return fire(node, state)
    raise AssertionError(node)


def leak(state, name, tau, target, dt):
    state[name] = state.get(name, 0.0) + dt / tau * (target - state.get(name, 0.0))
    return state[name]


def fire(node, state):
    spikes = state["v"] > p(node, "v_threshold")
    state["v"] = np.where(spikes, p(node, "v_reset"), state["v"])
    return spikes.astype(float)


def whole(value):
    return tuple(int(n) for n in np.atleast_1d(value))
