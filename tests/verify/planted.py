"""Networks, and bugs to plant into them: what an exporter, an engine or a hurried hand could do to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from tests.zoo import chain, neuron, normal

T, B = 6, 24


def eighths(*shape, seed=0):
    """Sums of such numbers are exact, so that some come out at a threshold."""
    return np.round(8 * normal(*shape, seed=seed)) / 8


LEAK, STRICT = o.Leak(0.5, 0.25), o.StrictLeak(0.75, 0.5)
A_I = o.PartialSums(np.tril(eighths(T, T, seed=6)), eighths(T, seed=1))
STAIRS = o.Staircase(np.array([-1.5, -0.25, 0.5, 1.0]), 0.25, 0.0)
DENSE = {
    "psu": neuron(LEAK, None, STRICT, threshold=0.5),
    "ipsu": neuron(A_I, LEAK, STRICT, threshold=0.5),
    "rpsu": neuron(LEAK, A_I, STRICT, threshold=0.5),
    "lif": ops.LIFNeuron(4.0, True, 0.5, "hard", ">="),
    "stairs": neuron(LEAK, None, STRICT, estimator=STAIRS, threshold=0.5),
}


def dense(kind):
    weights = (ops.Linear(eighths(*s, seed=i), eighths(s[0], seed=5)) for i, s in enumerate([(9, 5), (7, 9), (3, 7)]))
    first, second, third = weights
    return chain((5,), first, kind, second, kind, third)


def image(kind):
    conv = ops.Conv2d(eighths(4, 1, 3, 3), eighths(4), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    layers = (ops.Linear(eighths(7, 36, seed=1) / 4, eighths(7, seed=5)), kind, ops.Linear(eighths(3, 7), None))
    return chain((1, 3, 3), conv, kind, ops.Flatten(), *layers, names="abfcde")


NETWORKS = {name: dense(kind) for name, kind in DENSE.items()} | {"image": image(DENSE["psu"])}
FIRST, SECOND = "b", "d"
"""The two neuron layers; `a` and `c` are the weights before them."""


def data(machine):
    """Halves: many sums are exact, and the first step of some neurons is a tie."""
    random = np.random.default_rng(0)
    return (random.integers(-3, 5, (T, B, *machine.input_shape)) / 2).astype(np.float32)


def changed(machine, name, **fields):
    """With some fields of one layer others."""
    nodes = (replace(n, layer=replace(n.layer, **fields)) if n.name == name else n for n in machine.nodes)
    return StateMachine(tuple(nodes), machine.input_shape, machine.output)


def layer_of(machine, name):
    return next(node.layer for node in machine.nodes if node.name == name)


def tie_rule(machine):
    """> for >=."""
    return changed(machine, SECOND, fire_on=">")


def late(machine):
    """What the second layer is fed comes a step later."""
    nodes = []
    for node in machine.nodes:
        if node.name == SECOND:
            nodes.append(Node("late", ops.Delay(1), node.inputs))
            node = replace(node, inputs=("late",))
        nodes.append(node)
    return StateMachine(tuple(nodes), machine.input_shape, machine.output)


def swapped(machine):
    """Decay for gain and gain for decay; 1 - 1/tau for 1/tau."""
    layer = layer_of(machine, FIRST)
    if isinstance(layer, ops.LIFNeuron):
        return changed(machine, FIRST, tau=1 / (1 - 1 / layer.tau))
    role = "integrate" if isinstance(layer.integrate, o.Leak) else "estimate"
    leak = getattr(layer, role)
    return changed(machine, FIRST, **{role: o.Leak(leak.decay, leak.gain)})


def without_bias(machine):
    return changed(machine, "c", bias=None)


def one_weight_in_half_precision(machine):
    """Of the largest weights of the first layer, the one that loses most; in eighths nothing would be lost."""
    weight = layer_of(machine, "a").weight.copy()
    flat = weight.reshape(-1)
    flat[np.abs(flat).argmax()] = np.float32(np.float16(flat[np.abs(flat).argmax()] / 3)) * 3
    return changed(machine, "a", weight=weight)


def threshold_moved(machine):
    """By a millionth."""
    return changed(machine, FIRST, threshold=layer_of(machine, FIRST).threshold * (1 + 1e-6))


def ends_early(machine):
    return of_horizon(machine, T - 1)


def ends_late(machine):
    return of_horizon(machine, T + 1)


def of_horizon(machine, steps):
    """Learned matrices of so many steps, the same as far as they go."""

    def cut(layer):
        fields = {}
        for role in ("integrate", "estimate"):
            operator = getattr(layer, role)
            if isinstance(operator, o.PartialSums):
                matrix, bias = np.eye(steps), np.zeros(steps)
                kept = min(steps, T)
                matrix[:kept, :kept], bias[:kept] = operator.matrix[:kept, :kept], operator.bias[:kept]
                fields[role] = o.PartialSums(matrix, bias)
        return replace(layer, **fields)

    nodes = (replace(n, layer=cut(n.layer)) if n.name in (FIRST, SECOND) else n for n in machine.nodes)
    return StateMachine(tuple(nodes), machine.input_shape, machine.output)


BUGS = {
    "tie rule": (tie_rule, SECOND),
    "a step late": (late, SECOND),
    "decay for gain": (swapped, FIRST),
    "no bias": (without_bias, SECOND),
    "float16 weight": (one_weight_in_half_precision, FIRST),
    "threshold": (threshold_moved, FIRST),
}
"""Name -> what plants it, and the neuron layer in which it shows first."""
