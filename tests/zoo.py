"""The one list of what networks are made of: layers, causal operators, estimators, neurons, and graphs of them.

A row here brings every general test: `tests/test_zoo.py` holds it against its mathematics (`tests/oracles.py`) in the
machine, in a saved file, under rounding and in every target; the tests of the targets look at what they write of it.
All are built by hand, without capture.
"""

from __future__ import annotations

import numpy as np

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o

STEPS = 6
"""Horizon of the learned operators below."""


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def chain(features, *layers, names="abcdefgh"):
    """Layers one after the other, named a, b, c, ... unless said otherwise."""
    names = names[: len(layers)]
    inputs = ("x", *names)
    nodes = tuple(Node(name, layer, (before,)) for name, layer, before in zip(names, layers, inputs, strict=False))
    return StateMachine(nodes, features)


def neuron(integrate, estimate=None, reset=None, *, estimator=None, threshold=0.4, fire_on=">="):
    return ops.SpikingNeuron(integrate, estimate, estimator or o.Sigmoid(), reset, threshold, fire_on)


def matrix(T=STEPS):
    return np.tril(normal(T, T, seed=T))


LEAK, STRICT = o.Leak(0.4, 0.6), o.StrictLeak(0.7, 0.6)
LEARNED = o.PartialSums(matrix(), normal(STEPS, seed=1))
LEARNED_WITHOUT_BIAS = o.PartialSums(matrix(), np.zeros(STEPS))
SINGLE_STEP = o.PartialSums(matrix(1), normal(1))
BANDED = o.Window(normal(STEPS, 3), normal(STEPS, seed=1), time_invariant=False)
SLIDING = o.Window(normal(1, 3), normal(1, seed=1), time_invariant=True)
TWO_STEPS = o.Window(normal(1, 2), np.zeros(1), time_invariant=True)
POINTWISE = o.Window(normal(1, 1), normal(1), time_invariant=True)
TRACES = o.Exponentials(normal(3), np.array([0.9, 0.5, 0.1]))
BIASED_TRACES = o.Exponentials(normal(3), np.array([0.9, 0.5, 0.1]), -0.7)
STRICTLY_LEARNED = o.PartialSums(np.tril(matrix(), -1), np.zeros(STEPS))
STRICTLY_BANDED = o.Window(normal(STEPS, 3) * [0.0, 1.0, 1.0], np.zeros(STEPS), time_invariant=False)
STAIRS = o.Staircase(np.array([-1.5, -0.4, 0.3, 0.35, 1.1]), 0.2, 0.05)
ONE_STAIR = o.Staircase(np.array([0.25]), 1.0, 0.0)
MANY_STAIRS = o.Staircase(np.linspace(-3.0, 3.0, 63) ** 3, -1 / 64, 1.0)

OPERATORS = {
    "identity": o.Identity(),
    "leak": LEAK,
    "strict leak": STRICT,
    "learned": LEARNED,
    "learned without bias": LEARNED_WITHOUT_BIAS,
    "single step": SINGLE_STEP,
    "banded": BANDED,
    "sliding": SLIDING,
    "pointwise": POINTWISE,
    "strictly banded": STRICTLY_BANDED,
    "exponentials": TRACES,
    "biased exponentials": BIASED_TRACES,
}
"""Name -> operator, one of every kind and then some."""

NEURONS = {
    "psu": neuron(LEAK, None, STRICT),
    "psu fires on more": neuron(LEAK, None, STRICT, fire_on=">"),
    "psu with factors of one": neuron(o.Leak(1.0, 1.0), None, o.StrictLeak(1.0, 1.0)),
    "psu with factors of minus one": neuron(o.Leak(-1.0, -1.0), None, o.StrictLeak(-1.0, -1.0)),
    "ipsu": neuron(LEARNED_WITHOUT_BIAS, LEAK, STRICT),
    "ipsu as coded": neuron(LEARNED, o.Identity(), STRICT, estimator=o.RawCurrent(), fire_on=">"),
    "rpsu": neuron(LEAK, LEARNED, STRICT),
    "ppsu": neuron(LEARNED, None, STRICT),
    "one step": neuron(SINGLE_STEP, SINGLE_STEP, STRICT),
    "banded": neuron(BANDED, None, None),
    "sliding": neuron(SLIDING, None, None, threshold=0.0),
    "window of two": neuron(TWO_STEPS, SLIDING, STRICT),
    "pointwise window": neuron(POINTWISE, None, None),
    "sum of exponentials": neuron(TRACES, None, STRICT),
    "estimate by exponentials": neuron(LEAK, TRACES, STRICT),
    "estimate by biased exponentials": neuron(BIASED_TRACES, BIASED_TRACES, STRICT),
    "staircase": neuron(LEAK, None, STRICT, estimator=STAIRS),
    "staircase of one step": neuron(LEAK, o.Identity(), STRICT, estimator=ONE_STAIR),
    "staircase of many steps": neuron(LEAK, LEARNED, STRICTLY_LEARNED, estimator=MANY_STAIRS),
    "table": neuron(LEAK, None, STRICT, estimator=o.SigmoidTable()),
    "table behind a learned estimate": neuron(LEAK, LEARNED, STRICTLY_LEARNED, estimator=o.SigmoidTable()),
    "learned reset": neuron(LEAK, None, STRICTLY_LEARNED),
    "banded reset": neuron(LEAK, BANDED, STRICTLY_BANDED),
    "identity": neuron(o.Identity(), None, None),
    "identity with reset": neuron(o.Identity(), o.Identity(), STRICT),
    "lif": ops.LIFNeuron(2.0, True, 0.4, "hard", ">="),
    "lif soft": ops.LIFNeuron(3.0, True, 0.4, "soft", ">"),
    "lif undivided": ops.LIFNeuron(3.0, False, 0.4, "hard", ">"),
    "lif undivided soft": ops.LIFNeuron(1.0, False, 0.4, "soft", ">="),
    "if": ops.LIFNeuron(None, False, 0.4, "hard", ">="),
    "if soft": ops.LIFNeuron(None, False, 0.4, "soft", ">="),
    "bernoulli": ops.BernoulliNeuron(LEAK, 0),
    "bernoulli, other seed": ops.BernoulliNeuron(o.Identity(), 2**31 - 2),
    "bernoulli on a window": ops.BernoulliNeuron(BANDED, 5),
}
"""Name -> neuron layer, with every operator in every place."""

LAYERS = {
    "linear": (ops.Linear(normal(4, 5), normal(4)), (5,)),
    "linear without bias": (ops.Linear(normal(4, 5)), (5,)),
    "linear on (C, L)": (ops.Linear(normal(4, 5), normal(4)), (3, 5)),
    "linear on (C, H, W) without bias": (ops.Linear(normal(4, 5)), (2, 3, 5)),
    "conv1d": (ops.Conv1d(normal(4, 3, 3), normal(4), (1,), ((1, 1),), (1,), 1), (3, 8)),
    "conv1d asymmetric padding": (ops.Conv1d(normal(2, 3, 4), None, (2,), ((0, 3),), (1,), 1), (3, 7)),
    "conv1d groups, dilation": (ops.Conv1d(normal(6, 2, 3), normal(6), (1,), ((2, 1),), (2,), 3), (6, 9)),
    "conv2d": (ops.Conv2d(normal(4, 2, 3, 3), normal(4), (1, 1), ((1, 1), (1, 1)), (1, 1), 1), (2, 5, 6)),
    "conv2d asymmetric": (
        ops.Conv2d(normal(4, 2, 2, 3), normal(4), (2, 1), ((0, 1), (2, 0)), (1, 2), 1),
        (2, 7, 6),
    ),
    "conv2d depthwise": (ops.Conv2d(normal(4, 1, 2, 2), None, (1, 2), ((0, 0), (1, 0)), (1, 1), 4), (4, 5, 5)),
    "channel affine": (ops.ChannelAffine(normal(5), normal(5)), (5,)),
    "channel affine on (C, L)": (ops.ChannelAffine(normal(3), normal(3)), (3, 5)),
    "channel affine on (C, H, W)": (ops.ChannelAffine(normal(3), normal(3)), (3, 2, 5)),
    "mean": (ops.AvgPool((2,), (2,), ((0, 0),)), (3, 8)),
    "mean, padded": (ops.AvgPool((3, 2), (2, 1), ((1, 1), (0, 1))), (2, 5, 6)),
    "mean, padding not counted": (ops.AvgPool((3, 2), (2, 1), ((1, 1), (0, 1)), count_padding=False), (2, 5, 6)),
    "mean 1d, padding not counted": (ops.AvgPool((3,), (1,), ((2, 0),), count_padding=False), (2, 5)),
    "sum": (ops.SumPool((3,), (2,), ((1, 0),)), (3, 8)),
    "sum 2d": (ops.SumPool((2, 3), (1, 2), ((0, 1), (1, 1))), (2, 4, 5)),
    "max": (ops.MaxPool((2,), (2,), ((0, 0),)), (3, 8)),
    "max 1d, padded": (ops.MaxPool((3,), (2,), ((2, 1),)), (2, 5)),
    "max 2d, padded": (ops.MaxPool((3, 3), (2, 2), ((1, 1), (0, 2))), (2, 5, 6)),
    "flatten": (ops.Flatten(), (2, 3, 4)),
    "flatten of one axis": (ops.Flatten(), (4,)),
    "delay 1": (ops.Delay(1), (3,)),
    "delay 3": (ops.Delay(3), (2, 3)),
    "wait 1": (ops.Wait(1), (2, 3)),
    "wait 3": (ops.Wait(3), (3,)),
    "relu": (ops.Activation("relu"), (2, 3)),
    "sigmoid": (ops.Activation("sigmoid"), (3,)),
    "time conv": (ops.TimeConv(normal(4, 3, 3), normal(4), 1), (3,)),
    "time conv of one step": (ops.TimeConv(normal(4, 3, 1), normal(4), 1), (3,)),
    "time conv of one feature": (ops.TimeConv(normal(1, 1, 2), None, 1), (1,)),
    "time conv in groups, looking ahead": (ops.TimeConv(normal(4, 3, 4), normal(4), 2, lookahead=2), (6,)),
    "time conv looking ahead only": (ops.TimeConv(normal(2, 1, 3), None, 2, lookahead=2), (2,)),
    **{f"filter: {name}": (ops.Filter(operator), (3,)) for name, operator in OPERATORS.items()},
    "filter: learned, on (C, H, W)": (ops.Filter(LEARNED), (2, 3, 2)),
    "filter: biased exponentials, on (C, L)": (ops.Filter(BIASED_TRACES), (2, 3)),
    "hold": (ops.Hold(), (2, 3)),
    "readout mean": (ops.Readout("mean"), (3,)),
    "readout sum": (ops.Readout("sum"), (3,)),
    "readout last": (ops.Readout("last"), (3,)),
}
"""Name -> layer without spikes, and the features it is given. What joins two inputs is among the networks."""


def _residual() -> StateMachine:
    """Two branches of different depth, an Add of three inputs one of which is the network's own, spikes added."""
    nodes = (
        Node("0", ops.Linear(normal(4, 4), normal(4)), ("x",)),
        Node("0.spikes", NEURONS["rpsu"], ("0",)),
        Node("slow", ops.Delay(2), ("0.spikes",)),
        Node("sum", ops.Add(), ("x", "0.spikes", "slow")),
        Node("1", ops.Linear(normal(3, 4, seed=2)), ("sum",)),
        Node("1.spikes", NEURONS["sliding"], ("1",)),
        Node("mean", ops.Readout("mean"), ("1.spikes",)),
    )
    return StateMachine(nodes, (4,))


def _state_is_output() -> StateMachine:
    """The output is a state tensor too, and is read once more."""
    nodes = (Node("sum", ops.Readout("sum"), ("x",)), Node("late", ops.Delay(1), ("sum",)))
    return StateMachine(nodes, (3,), output="sum")


def _look_ahead() -> StateMachine:
    """Two branches that look ahead by 2 and by 1, joined; everything with a memory stands behind them."""
    nodes = (
        Node("two", ops.TimeConv(normal(4, 3, 3), normal(4), 1, lookahead=2), ("x",)),
        Node("one", ops.TimeConv(normal(4, 3, 2, seed=1), normal(4), 1, lookahead=1), ("x",)),
        Node("one late", ops.Wait(1), ("one",)),
        Node("product", ops.Multiply(), ("two", "one late")),
        Node("rpsu", NEURONS["rpsu"], ("product",)),
        Node("lif", NEURONS["lif soft"], ("rpsu",)),
        Node("random", NEURONS["bernoulli"], ("product",)),
        Node("banded", NEURONS["banded"], ("product",)),
        Node("exponentials", NEURONS["sum of exponentials"], ("random",)),
        Node("delay", ops.Delay(1), ("banded",)),
        Node("current", ops.Filter(TRACES), ("product",)),
        Node("strict", ops.Filter(STRICT), ("current",)),
        Node("stairs", NEURONS["staircase of many steps"], ("strict",)),
        Node("sum", ops.Add(), ("lif", "exponentials", "delay", "strict", "stairs")),
        Node("mean", ops.Readout("mean"), ("sum",)),
    )
    return StateMachine(nodes, (3,))


def _static() -> StateMachine:
    """A held image beside what changes, a layer that two of them share, one behind another, one that starts late."""
    nodes = (
        Node("conv", ops.Conv1d(normal(3, 2, 3), normal(3), (1,), ((1, 1),), (1,), 1), ("x",)),
        Node("relu", ops.Activation("relu"), ("conv",)),
        Node("flat", ops.Flatten(), ("relu",)),
        Node("held", ops.Hold(), ("flat",)),
        Node("gate", ops.Activation("sigmoid"), ("flat",)),
        Node("held gate", ops.Hold(), ("gate",)),
        Node("wider", ops.Linear(normal(12, 12)), ("held",)),
        Node("held twice", ops.Hold(), ("wider",)),
        Node("changing", ops.Flatten(), ("x",)),
        Node("mixed", ops.Linear(normal(12, 8)), ("changing",)),
        Node("late", ops.Wait(1), ("mixed",)),
        Node("shifted", ops.Linear(normal(12, 12, seed=3)), ("late",)),
        Node("held late", ops.Hold(), ("shifted",)),
        Node("product", ops.Multiply(), ("held gate", "held twice", "mixed")),
        Node("wait", ops.Wait(1), ("product",)),
        Node("sum", ops.Add(), ("wait", "held late")),
        Node("spikes", NEURONS["lif"], ("sum",)),
    )
    return StateMachine(nodes, (2, 4))


def _held_filter() -> StateMachine:
    """Filters without memory but with a number for every step; of one only the first step is ever asked for."""
    window = o.Window(normal(STEPS, 1), normal(STEPS, seed=1), time_invariant=False)
    nodes = (
        Node("first", ops.Filter(window), ("x",)),
        Node("held", ops.Hold(), ("first",)),
        Node("changing", ops.Filter(window), ("x",)),
        Node("sum", ops.Add(), ("held", "changing")),
    )
    return StateMachine(nodes, (3,))


NETWORKS = {
    "filters in a row": chain((3,), *(ops.Filter(operator) for operator in (LEAK, LEARNED, STRICT, o.Identity()))),
    "held filter": _held_filter(),
    "residual": _residual(),
    "look-ahead": _look_ahead(),
    "static": _static(),
    "input times itself": StateMachine((Node("cube", ops.Multiply(), ("x", "x", "x")),), (3,)),
    "output is a state": _state_is_output(),
    "input twice": StateMachine((Node("double", ops.Add(), ("x", "x")),), (3,)),
    "unfolded batch norm": chain(
        (2, 5),
        ops.Conv1d(normal(3, 2, 3), normal(3), (1,), ((1, 1),), (1,), 1),
        ops.ChannelAffine(normal(3), normal(3, seed=1)),
        NEURONS["psu"],
        ops.MaxPool((2,), (2,), ((0, 0),)),
        ops.Flatten(),
        ops.Linear(normal(2, 6)),
        ops.Readout("sum"),
    ),
    "shared neuron": chain((4,), NEURONS["ipsu"], ops.Linear(normal(4, 4)), NEURONS["ipsu"], ops.Linear(normal(4, 4))),
}

MACHINES = (
    {name: chain(features, layer) for name, (layer, features) in LAYERS.items()}
    | {f"{name} neuron": chain((3,), layer) for name, layer in NEURONS.items()}
    | {
        f"{name} neuron on (C, H, W)": chain((2, 3, 2), NEURONS[name])
        for name in ("rpsu", "banded", "sum of exponentials", "staircase")
    }
    | NETWORKS
)
"""Everything: a network for each layer, each neuron, and the graphs."""


def inputs(machine, T, B, seed=0):
    """Random input that makes some neurons fire and some not, float32."""
    return np.random.default_rng(seed).normal(0.5, 2.0, (T, B, *machine.input_shape)).astype(np.float32)


def steps_of(machine, most=STEPS):
    return min(machine.horizon or most, most)


def random_state(machine, batch, seed=0):
    """As if the machine had run before: nothing is zero but the step counter."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(value.shape).astype(value.dtype) if machine.state_spec[name].batched else value
        for name, value in machine.initial_state(batch).items()
    }
