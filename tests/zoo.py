"""The one list of what networks are made of: layers, causal operators, estimators, neurons, and graphs of them.

A row here brings every general test: `tests/test_zoo.py` holds it against its mathematics (`tests/oracles.py`) in the
machine, in a saved file, under rounding and in every target; the tests of the targets look at what they write of it.
All are built by hand, without capture.
"""

from __future__ import annotations

import numpy as np

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.machine.ops.functions import FUNCTIONS

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
    "norm": (ops.LPPool((2,), (2,), ((0, 0),), 2.0), (3, 8)),
    "norm 2d of p 4, padded": (ops.LPPool((3, 2), (1, 2), ((1, 0), (0, 1)), 4.0), (2, 4, 5)),
    "flatten": (ops.Flatten(), (2, 3, 4)),
    "flatten of one axis": (ops.Flatten(), (4,)),
    "delay 1": (ops.Delay(1), (3,)),
    "delay 3": (ops.Delay(3), (2, 3)),
    "wait 1": (ops.Wait(1), (2, 3)),
    "wait 3": (ops.Wait(3), (3,)),
    **{kind: (ops.Activation(kind), (2, 3)) for kind in FUNCTIONS},
    "leaky relu": (ops.LeakyReLU(0.2), (2, 3)),
    "prelu": (ops.PReLU(normal(3)), (3, 2)),
    "prelu of one slope": (ops.PReLU(normal(1)), (3,)),
    "elu": (ops.ELU(1.3), (3,)),
    "selu": (ops.ELU(1.7, 1.05, 0.8), (3,)),
    "softplus": (ops.Softplus(), (3,)),
    "softplus, mirrored": (ops.Softplus(-2.0, 1.0), (3,)),
    "clamp": (ops.Clamp(-0.5, 1.5), (3,)),
    "clamp from below": (ops.Clamp(low=-0.5), (3,)),
    "clamp from above": (ops.Clamp(high=0.5), (3,)),
    "exp": (ops.Elementary("exp"), (3,)),
    "expm1": (ops.Elementary("expm1"), (3,)),
    **{f"power {n}": (ops.Power(n), (3,)) for n in (2.0, 3.0)},
    "softmax": (ops.Softmax(0), (3, 4)),
    "log softmax": (ops.LogSoftmax(1), (3, 4)),
    "layer norm": (ops.LayerNorm((4,), 1e-5, normal(4), normal(4)), (3, 4)),
    "layer norm over two axes": (ops.LayerNorm((3, 4), 0.1, normal(3, 4)), (2, 3, 4)),
    "rms norm": (ops.RMSNorm((4,), 1e-6, normal(4)), (4,)),
    "rms norm over two axes": (ops.RMSNorm((3, 4), 0.1), (3, 4)),
    "group norm": (ops.GroupNorm(2, 1e-5, normal(6), normal(6)), (6, 2, 3)),
    "group norm of one group": (ops.GroupNorm(1, 0.1), (4,)),
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
    "readout max": (ops.Readout("max"), (2, 3)),
    "readout min": (ops.Readout("min"), (3,)),
    "mean of the last 3": (ops.MeanOfLast(3), (2, 3)),
    "mean of the last 1": (ops.MeanOfLast(1), (3,)),
    "mean of more than there are": (ops.MeanOfLast(40), (3,)),
    "conv3d": (
        ops.Conv3d(normal(4, 1, 2, 3, 2), normal(4), (1, 2, 1), ((0, 1), (1, 1), (0, 0)), (1, 1, 2), 2),
        (2, 3, 4, 5),
    ),
    "transposed conv1d": (ops.ConvTranspose1d(normal(3, 4, 3), normal(4), (2,), ((1, 1),), (1,), (1,), 1), (3, 5)),
    "transposed conv1d, groups, dilation": (
        ops.ConvTranspose1d(normal(4, 3, 2), normal(6), (3,), ((0, 2),), (0,), (2,), 2),
        (4, 4),
    ),
    "transposed conv2d": (
        ops.ConvTranspose2d(normal(2, 3, 3, 2), None, (2, 1), ((1, 0), (0, 1)), (1, 0), (1, 2), 1),
        (2, 3, 4),
    ),
    "mean 3d, padded": (ops.AvgPool((2, 1, 3), (1, 1, 2), ((1, 0), (0, 0), (1, 1)), count_padding=False), (2, 3, 2, 4)),
    "sum 3d": (ops.SumPool((2, 2, 2), (1, 2, 1), ((0, 0), (0, 1), (0, 0))), (2, 3, 3, 3)),
    "max 3d, padded": (ops.MaxPool((2, 2, 1), (1, 2, 1), ((1, 0), (0, 1), (0, 0))), (2, 3, 3, 2)),
    "mean padded by more than a window": (ops.AvgPool((2, 1), (1, 2), ((0, 1), (2, 1))), (2, 3, 4)),
    "mean with places after the last window": (ops.AvgPool((2,), (4,), ((1, 3),), count_padding=False), (2, 4)),
    "max with places after the last window": (ops.MaxPool((1,), (3,), ((0, 2),)), (2, 4)),
    "sum padded by more than a window": (ops.SumPool((2,), (1,), ((2, 3),)), (2, 3)),
    "affine": (ops.Affine(normal(2, 3), normal(2, 3)), (2, 3)),
    "affine, channels last": (ops.Affine(normal(3), normal(2, 1)), (2, 3)),
    "affine that widens": (ops.Affine(normal(2, 1, 1), np.array(0.7)), (1, 3)),
    "projection of the last axis": (ops.Project(normal(4, 3), 1), (2, 3)),
    "projection of the last but one": (ops.Project(normal(4, 2), 0), (2, 3)),
    "projection of the first of three": (ops.Project(normal(4, 2) * [1.0, 0.0], 0), (2, 3, 2)),
    "projection of one axis": (ops.Project(normal(2, 3), 0), (3,)),
    "reshape": (ops.Reshape((3, 2, 2)), (2, 6)),
    "permute": (ops.Permute((2, 0, 1)), (2, 3, 4)),
    "take every second": (ops.Take(1, (1, 3, 5)), (2, 6)),
    "take one": (ops.Take(0, (2,)), (3, 2)),
    "take backwards": (ops.Take(0, (2, 1, 0)), (3, 2)),
    "take with repeats": (ops.Take(2, (0, 0, 2, 1, 1)), (2, 1, 3)),
    "expand": (ops.Expand((2, 4, 3)), (4, 1)),
    "constant pad": (ops.ConstantPad(((1, 0), (0, 2)), -0.3), (2, 3)),
    "zero pad": (ops.ConstantPad(((2, 1),)), (3,)),
    "reduce mean": (ops.Reduce("mean", (0, 2)), (2, 3, 4)),
    "reduce sum": (ops.Reduce("sum", (1,), keepdims=True), (2, 3)),
    "reduce max": (ops.Reduce("max", (2,)), (2, 3, 4)),
    "reduce min": (ops.Reduce("min", (1, 0)), (2, 3, 4)),
    "arg max": (ops.ArgMax(1), (2, 5)),
    "top 3": (ops.TopK(1, 3), (2, 5)),
    "bottom 2, channels first": (ops.TopK(0, 2, largest=False), (3, 2)),
    "places of the top 2": (ops.ArgTopK(0, 2), (4, 2)),
    "places in rising order": (ops.ArgTopK(0, 5, largest=False), (5,)),
    "arg max kept": (ops.ArgMax(0, keepdims=True), (5,)),
}
"""Name -> layer without spikes, and the features it is given. What joins two inputs is among the networks."""

OF_POSITIVES = {
    "log": ops.Elementary("log"),
    "log1p": ops.Elementary("log1p"),
    **{f"power {n}": ops.Power(n) for n in (0.5, -0.5, 1.5, -1.0, -2.0)},
    **{f"norm of p {p}": ops.LPPool((2,), (1,), ((1, 0),), p) for p in (0.5, 1.7, 3.0)},
}
"""Name -> layer that has no value where x < 0, or is too steep near 0."""


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


def _late_image() -> StateMachine:
    """One image, shown at every step; the answer is one step late."""
    nodes = (
        Node("weights", ops.Linear(normal(5, 3)), ("x",)),
        Node("held", ops.Hold(), ("weights",)),
        Node("late", ops.Wait(1), ("held",)),
        Node("spikes", NEURONS["lif"], ("late",)),
    )
    return StateMachine(nodes, (3,))


def _broadcast() -> StateMachine:
    """Features of different shapes in sums, products and differences; an axis put in front."""
    nodes = (
        Node("gate", ops.Reduce("mean", (1, 2), keepdims=True), ("x",)),
        Node("gated", ops.Multiply(), ("x", "gate")),
        Node("column", ops.Take(2, (1,)), ("gated",)),
        Node("row", ops.Reduce("max", (0, 1)), ("gated",)),
        Node("shifted", ops.Subtract(), ("row", "column")),
        Node("sum", ops.Add(), ("row", "shifted", "gate")),
    )
    return StateMachine(nodes, (2, 3, 4))


def _quotient() -> StateMachine:
    """By what is never zero, of other shape, and after a sum that was rounded."""
    nodes = (
        Node("mixed", ops.Linear(normal(3, 3), normal(3)), ("x",)),
        Node("gate", ops.Activation("sigmoid"), ("mixed",)),
        Node("total", ops.Reduce("sum", (1,), keepdims=True), ("gate",)),
        Node("share", ops.Divide(), ("gate", "total")),
        Node("ratio", ops.Divide(), ("mixed", "share")),
    )
    return StateMachine(nodes, (2, 3))


def _attention() -> StateMachine:
    """Two heads: queries and keys of one projection, cut and joined; no softmax, as spiking attention has it."""
    nodes = (
        Node("mixed", ops.Linear(normal(12, 4), normal(12)), ("x",)),
        Node("heads", ops.Reshape((3, 3, 2, 2)), ("mixed",)),
        Node("split", ops.Permute((1, 2, 0, 3)), ("heads",)),
        Node("query", ops.Take(0, (0,)), ("split",)),
        Node("key", ops.Take(0, (1,)), ("split",)),
        Node("value", ops.Take(0, (2,)), ("split",)),
        Node("key turned", ops.Permute((0, 1, 3, 2)), ("key",)),
        Node("attention", ops.MatMul(), ("query", "key turned")),
        Node("shared", ops.Reshape((2, 3, 3)), ("attention",)),
        Node("seen", ops.MatMul(), ("shared", "value")),
        Node("joined", ops.Concat(3), ("seen", "query")),
    )
    return StateMachine(nodes, (3, 4))


def _spikes_that_move() -> StateMachine:
    """What only moves spikes leaves them spikes."""
    nodes = (
        Node("spikes", NEURONS["psu"], ("x",)),
        Node("turned", ops.Permute((1, 0)), ("spikes",)),
        Node("rows", ops.Reshape((6,)), ("turned",)),
        Node("some", ops.Take(0, (5, 0, 2)), ("rows",)),
        Node("padded", ops.ConstantPad(((0, 1),), 1.0), ("some",)),
        Node("both", ops.Concat(0), ("rows", "padded")),
        Node("wide", ops.Expand((2, 10)), ("both",)),
        Node("any", ops.Reduce("max", (0,)), ("wide",)),
        Node("most", ops.TopK(0, 2), ("wide",)),
        Node("all", ops.Reduce("min", (0,)), ("most",)),
        Node("product", ops.Multiply(), ("any", "all")),
        Node("ever", ops.Readout("max"), ("product",)),
        Node("first", ops.ArgMax(0, keepdims=True), ("both",)),
        Node("output", ops.Concat(0), ("first", "ever")),
    )
    return StateMachine(nodes, (2, 3))


def _several_outputs() -> StateMachine:
    """A readout, spikes of other axes, a state, one of them twice, and the input; all of them late."""
    nodes = (
        Node("late", ops.TimeConv(normal(3, 3, 2), normal(3), 1, lookahead=1), ("x",)),
        Node("y", NEURONS["lif"], ("late",)),
        Node("column", ops.Reshape((3, 1)), ("y",)),
        Node("mean", ops.Readout("mean"), ("y",)),
        Node("sum", ops.Readout("sum"), ("late",)),
        Node("wait", ops.Wait(1), ("x",)),
        Node(
            "outputs",
            ops.Outputs(("answer", "spikes.0", "V", "again", "input")),
            ("mean", "column", "sum", "column", "wait"),
        ),
    )
    return StateMachine(nodes, (3,))


def _windows() -> StateMachine:
    """Two membranes, the second of which is handed over through the first; late, and fired behind."""
    nodes = (
        Node("late", ops.TimeConv(normal(3, 3, 2), normal(3), 1, lookahead=1), ("x",)),
        Node("first", ops.Filter(o.Leak(1.0, 0.4)), ("late",)),
        Node("first spikes", NEURONS["identity"], ("first",)),
        Node("current", ops.Linear(normal(3, 3), normal(3)), ("first spikes",)),
        Node("second", ops.HandOver(0.4, np.pi / 4), ("current", "first")),
        Node("second spikes", NEURONS["identity"], ("second",)),
        Node("sum", ops.Add(), ("second spikes", "second")),
    )
    return StateMachine(nodes, (3,))


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


def _functions() -> StateMachine:
    """Layers whose bounds see their inputs: late ones, held ones, one behind another, and spikes in between."""
    nodes = (
        Node("held group norm", ops.GroupNorm(2, 1e-5), ("x",)),
        Node("held softmax", ops.LogSoftmax(1), ("held group norm",)),
        Node("held", ops.Hold(), ("held softmax",)),
        Node("exp", ops.Elementary("exp"), ("held",)),
        Node("flat", ops.Flatten(), ("exp",)),
        Node("wait", ops.Wait(1), ("flat",)),
        Node("changing", ops.Flatten(), ("x",)),
        Node("late", ops.TimeConv(normal(6, 6, 2), normal(6), 1, lookahead=1), ("changing",)),
        Node("layer norm", ops.LayerNorm((6,), 1e-5, normal(6), normal(6)), ("late",)),
        Node("spikes", NEURONS["lif"], ("layer norm",)),
        Node("softmax", ops.Softmax(0), ("spikes",)),
        Node("sum", ops.Add(), ("wait", "softmax")),
        Node("positive", ops.Softplus(), ("sum",)),
        Node("log", ops.Elementary("log"), ("positive",)),
        Node("more spikes", NEURONS["psu"], ("log",)),
        Node("rms norm", ops.RMSNorm((6,), 0.1), ("more spikes",)),
    )
    return StateMachine(nodes, (2, 3))


NETWORKS = {
    "filters in a row": chain((3,), *(ops.Filter(operator) for operator in (LEAK, LEARNED, STRICT, o.Identity()))),
    "held filter": _held_filter(),
    "hand-over of late membranes": _windows(),
    "hand-over": StateMachine(
        (Node("product", ops.Multiply(), ("x", "x")), Node("v", ops.HandOver(0.7, -1.3), ("x", "product"))), (2, 3)
    ),
    "residual": _residual(),
    "look-ahead": _look_ahead(),
    "static": _static(),
    "an image, late": _late_image(),
    "functions": _functions(),
    **{name: chain((2, 3), ops.Softplus(), layer) for name, layer in OF_POSITIVES.items()},
    "input times itself": StateMachine((Node("cube", ops.Multiply(), ("x", "x", "x")),), (3,)),
    "output is a state": _state_is_output(),
    "input twice": StateMachine((Node("double", ops.Add(), ("x", "x")),), (3,)),
    "broadcast": _broadcast(),
    "quotient": _quotient(),
    "attention": _attention(),
    "several outputs": _several_outputs(),
    "spikes that move": _spikes_that_move(),
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
    """Random input that makes some neurons fire and some not, float32; one image where a machine looks at one only."""
    x = np.random.default_rng(seed).normal(0.5, 2.0, (T, B, *machine.input_shape)).astype(np.float32)
    return np.repeat(x[:1], T, axis=0) if machine.static_input else x


def steps_of(machine, most=STEPS):
    return min(machine.horizon or most, most)


def random_state(machine, batch, seed=0):
    """As if the machine had run before: nothing is zero but the step counter."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(value.shape).astype(value.dtype) if machine.state_spec[name].batched else value
        for name, value in machine.initial_state(batch).items()
    }
