"""The rounding bound is attacked: the worst engines on the worst inputs come near it, and never beyond it.

That they come near is half of the test: a bound with any of its constants made smaller would be passed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify.rounding import rounding_bounds
from tests.amount import tries
from tests.helpers import noise
from tests.verify.engines import TO_NEAREST, Engine, U, cut_off, down, nearest, up
from tests.zoo import chain, neuron

T, B = 16, 2


def attack(machine, engine, x):
    """Largest error of an output or a margin, as a share of its bound."""
    values, margins, spikes = {"x": x}, {}, {}
    for node in machine.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.layer, ops.Neuron):
            drawn = noise(node.layer.seed, inputs[0].shape) if isinstance(node.layer, ops.BernoulliNeuron) else None
            margins[node.name], fired = engine.neuron(node.layer, inputs[0], drawn)
            values[node.name] = spikes[node.name] = np.float64(fired)
        elif len(inputs) > 1:
            values[node.name] = engine.elementwise(node.layer, inputs)
        else:
            values[node.name] = engine.layer(node.layer, inputs[0])
    x, told = torch.from_numpy(x), {name: torch.from_numpy(rows) for name, rows in spikes.items()}
    state = {name: torch.from_numpy(v) for name, v in machine.initial_state(x.shape[1], "float64").items()}
    exact, bounds = machine.trace(x, state, spikes=told), rounding_bounds(machine, x, told, state, "float32")
    shares = [share(values[machine.output], exact.output, bounds.outputs["y"])]
    shares += [share(margins[name], exact.margin[name], bounds.margin[name]) for name in margins]
    return max(shares)


def share(found, exact, bound):
    """Where nothing is known, nothing is wrong."""
    error, bound = np.abs(found - exact.numpy()), bound.double().numpy()
    known = ~np.isinf(bound)
    return float((error[known] / np.maximum(bound[known], 1e-300)).max(initial=0.0))


def absorbed(shape, size, seed):
    """One number just above a power of two, and many that are lost when they are added to it: nearly `size` U each."""
    random = np.random.default_rng(seed)
    large = random.random(shape) < (0.0, 0.01, 0.1)[seed % 3]
    large[..., (0, -1)[seed % 2]] = True
    return 2.0 ** random.integers(-3, 1) * nearest(np.where(large, 1.2, size * U * random.uniform(0.9, 0.99, shape)))


def spread(shape, seed):
    random = np.random.default_rng(seed)
    return nearest(random.uniform(0.5, 1.0, shape) * 2.0 ** random.integers(-3, 4, shape))


def pulses(shape, seed):
    """Now and then a large number of either sign, and nothing in between."""
    random = np.random.default_rng(seed)
    size = 10.0 ** random.integers(0, 4, shape) * (random.random(shape) < 0.4)
    return nearest(random.standard_normal(shape) * size)


def worst(machine, engines, seeds=2):
    """Of all engines, on what each of them loses most of."""
    shape, shares = (T, B, *machine.input_shape), []
    for engine in engines:
        size = 1.0 if engine.rounded is nearest else 2.0
        for seed in range(seeds):
            in_time = np.moveaxis(absorbed((*shape[1:], T), size, seed), -1, 0)
            shares += [attack(machine, engine, x) for x in (absorbed(shape, size, seed), in_time, spread(shape, seed))]
    return max(shares)


ONE_WAY = [
    Engine(down),
    Engine(up, fused=True, sigmoid_off=4.0),
    Engine(cut_off, "last to first", bias_last=False, sigmoid_off=-4.0),
    Engine(down, "shuffled", lanes=4),
]
"""Twice as wrong in every operation: what the safety factor has room for."""


def positive(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.9, 1.0, shape)


LEAK, STRICT = o.Leak(0.7, 0.9), o.StrictLeak(0.7, 0.9)
LEARNED = o.PartialSums(np.tril(positive(T, T)), positive(T) / 8)
WINDOW = o.Window(positive(1, 12), positive(1) / 8, True)
BANDED = o.Window(positive(T, 12), positive(T) / 8, False)
TRACES = o.Exponentials(positive(8), np.linspace(0.95, 0.3, 8), 0.1)
STAIRS = o.Staircase(np.array([0.3, 1.1, 2.7]), 0.3, 0.1)


LAYERS = {
    "linear": (ops.Linear(positive(4, 64), positive(4) / 8), (64,), 0.54, 0.44),
    "linear without bias": (ops.Linear(positive(4, 200)), (200,), 0.78, 0.32),
    "conv1d": (ops.Conv1d(positive(4, 8, 5), positive(4) / 8, (2,), ((1, 2),), (1,), 1), (8, 9), 0.42, 0.53),
    "conv2d": (ops.Conv2d(positive(4, 2, 3, 3), None, (1, 2), ((1, 1), (0, 1)), (2, 1), 2), (4, 7, 6), 0.7, 0.61),
    "channel affine": (ops.ChannelAffine(positive(3), positive(3)), (3, 5), 0.48, 0.73),
    "mean": (ops.AvgPool((5, 5), (2, 2), ((0, 0), (0, 0))), (2, 9, 9), 0.68, 0.57),
    "mean, padding not counted": (ops.AvgPool((5, 4), (2, 1), ((1, 1), (0, 1)), False), (2, 9, 9), 0.6, 0.58),
    "sum": (ops.SumPool((16,), (4,), ((1, 0),)), (3, 40), 0.63, 0.61),
    "norm": (ops.LPPool((16,), (4,), ((1, 0),), 2.0), (3, 40), 0.3, 0.59),
    "norm of p 1": (ops.LPPool((64,), (4,), ((1, 0),), 1.0), (3, 160), 0.64, 0.41),
    "max": (ops.MaxPool((3,), (2,), ((1, 0),)), (3, 9), 0.0, 0.71),
    "relu": (ops.Activation("relu"), (3,), 0.0, 0.73),
    "sigmoid": (ops.Activation("sigmoid"), (3,), 0.29, 0.29),
    "flatten": (ops.Flatten(), (2, 3), 0.0, 0.79),
    "delay": (ops.Delay(2), (3,), 0.0, 0.67),
    "time conv": (ops.TimeConv(positive(4, 4, 5), positive(4) / 8, 2), (8,), 0.4, 0.56),
    "readout mean": (ops.Readout("mean"), (9,), 0.19, 0.72),
    "readout sum": (ops.Readout("sum"), (9,), 0.26, 0.72),
    "readout last": (ops.Readout("last"), (9,), 0.0, 0.73),
    "readout max": (ops.Readout("max"), (9,), 0.0, 0.79),
    "mean of the last": (ops.MeanOfLast(5), (9,), 0.46, 0.71),
    "conv3d": (
        ops.Conv3d(positive(2, 2, 2, 3, 3), positive(2) / 8, (1,) * 3, ((0, 1),) * 3, (1,) * 3, 1),
        (2, 3, 4, 4),
        0.55,
        0.56,
    ),
    "transposed conv1d": (
        ops.ConvTranspose1d(positive(8, 4, 6), positive(4) / 8, (2,), ((1, 2),), (1,), (1,), 1),
        (8, 9),
        0.45,
        0.62,
    ),
    "transposed conv2d": (
        ops.ConvTranspose2d(positive(8, 2, 3, 2), None, (2, 1), ((1, 0), (0, 1)), (0, 1), (1, 2), 2),
        (8, 5, 5),
        0.77,
        0.65,
    ),
    "affine": (ops.Affine(positive(3, 5), positive(5)), (3, 5), 0.54, 0.75),
    "projection": (ops.Project(positive(4, 40), 0), (40, 3), 0.8, 0.56),
    "reshape": (ops.Reshape((3, 2)), (2, 3), 0.0, 0.79),
    "permute": (ops.Permute((1, 0)), (2, 3), 0.0, 0.79),
    "take": (ops.Take(0, (1, 0, 1)), (2, 3), 0.0, 0.79),
    "expand": (ops.Expand((2, 2, 3)), (1, 3), 0.0, 0.79),
    "constant pad": (ops.ConstantPad(((1, 0),), 0.3), (3,), 0.33, 0.79),
    "reduce mean": (ops.Reduce("mean", (0, 1)), (9, 9), 0.73, 0.43),
    "reduce sum": (ops.Reduce("sum", (0,), keepdims=True), (40, 3), 0.72, 0.53),
    "reduce max": (ops.Reduce("max", (1,)), (2, 9), 0.0, 0.72),
    "reduce min": (ops.Reduce("min", (1,)), (2, 9), 0.0, 0.73),
    "leak": (ops.Filter(LEAK), (9,), 0.39, 0.73),
    "strict leak": (ops.Filter(STRICT), (9,), 0.36, 0.7),
    "learned": (ops.Filter(LEARNED), (9,), 0.42, 0.57),
    "window": (ops.Filter(WINDOW), (9,), 0.38, 0.6),
    "banded": (ops.Filter(BANDED), (9,), 0.43, 0.6),
    "exponentials": (ops.Filter(TRACES), (9,), 0.41, 0.68),
    "neuron: identity": (neuron(o.Identity()), (9,), 0.17, 0.64),
    "neuron: psu": (neuron(LEAK, None, STRICT), (9,), 0.18, 0.62),
    "neuron: ipsu": (neuron(LEARNED, LEAK, STRICT), (9,), 0.17, 0.49),
    "neuron: rpsu": (neuron(LEAK, LEARNED, STRICT), (9,), 0.18, 0.62),
    "neuron: raw current": (
        neuron(WINDOW, o.Identity(), STRICT, estimator=o.RawCurrent(), fire_on=">"),
        (9,),
        0.2,
        0.52,
    ),
    "neuron: staircase": (neuron(LEAK, BANDED, STRICT, estimator=STAIRS), (9,), 0.19, 0.62),
    "neuron: exponentials": (neuron(TRACES, None, STRICT), (9,), 0.28, 0.65),
    "lif hard": (ops.LIFNeuron(3.0, True, 0.4, "hard", ">="), (9,), 0.16, 0.43),
    "lif soft": (ops.LIFNeuron(3.0, True, 0.4, "soft", ">"), (9,), 0.16, 0.43),
    "lif undivided": (ops.LIFNeuron(3.0, False, 0.4, "soft", ">="), (9,), 0.17, 0.53),
    "if": (ops.LIFNeuron(None, False, 0.4, "hard", ">="), (9,), 0.17, 0.53),
    "bernoulli": (ops.BernoulliNeuron(LEAK, 3), (9,), 0.17, 0.3),
    "abs": (ops.Activation("abs"), (9,), 0.0, 0.71),
    "tanh": (ops.Activation("tanh"), (9,), 0.36, 0.67),
    "erf": (ops.Activation("erf"), (9,), 0.37, 0.67),
    "sin": (ops.Activation("sin"), (9,), 0.36, 0.69),
    "cos": (ops.Activation("cos"), (9,), 0.31, 0.24),
    "gelu": (ops.Activation("gelu"), (9,), 0.28, 0.46),
    "gelu by tanh": (ops.Activation("gelu_tanh"), (9,), 0.32, 0.46),
    "silu": (ops.Activation("silu"), (9,), 0.39, 0.41),
    "mish": (ops.Activation("mish"), (9,), 0.5, 0.51),
    "hardswish": (ops.Activation("hardswish"), (9,), 0.16, 0.29),
    "hardsigmoid": (ops.Activation("hardsigmoid"), (9,), 0.1, 0.26),
    "softsign": (ops.Activation("softsign"), (9,), 0.09, 0.44),
    "logsigmoid": (ops.Activation("logsigmoid"), (9,), 0.36, 0.34),
    "leaky relu": (ops.LeakyReLU(0.3), (9,), 0.0, 0.71),
    "prelu": (ops.PReLU(positive(4)), (4, 9), 0.0, 0.75),
    "elu": (ops.ELU(1.3), (9,), 0.0, 0.39),
    "softplus": (ops.Softplus(), (9,), 0.39, 0.39),
    "softplus, soon a line": (ops.Softplus(2.0, 1.0), (9,), 0.38, 0.39),
    "clamp": (ops.Clamp(0.6, 30.0), (9,), 0.04, 0.19),
    "softmax": (ops.Softmax(0), (16,), 0.17, 0.08),
    "log softmax": (ops.LogSoftmax(0), (16,), 0.22, 0.19),
    "layer norm": (ops.LayerNorm((32,), 1e-5, positive(32), positive(32)), (32,), 0.36, 0.35),
    "rms norm": (ops.RMSNorm((32,), 1e-5, positive(32)), (32,), 0.38, 0.19),
    "group norm": (ops.GroupNorm(2, 1e-5, positive(4), positive(4)), (4, 9), 0.38, 0.34),
}
"""Name -> layer, features, how near the bound engines come that round one way: on their own, behind a wrong sum.

What is left is the two roundings that every sum is allowed beside its own, and a sum that has less to lose than u.
"""

STEEP = {
    "exp": (ops.Elementary("exp"), (9,), 0.37, 0.58),
    "expm1": (ops.Elementary("expm1"), (9,), 0.37, 0.58),
    "log": (ops.Elementary("log"), (9,), 0.34, 0.63),
    "log1p": (ops.Elementary("log1p"), (9,), 0.25, 0.49),
    "power 2": (ops.Power(2.0), (9,), 0.28, 0.73),
    "power 3": (ops.Power(3.0), (9,), 0.26, 0.74),
    "square root": (ops.Power(0.5), (9,), 0.34, 0.64),
    "power -0.5": (ops.Power(-0.5), (9,), 0.32, 0.63),
    "power 1.5": (ops.Power(1.5), (9,), 0.28, 0.72),
    "reciprocal": (ops.Power(-1.0), (9,), 0.31, 0.69),
    "power -2": (ops.Power(-2.0), (9,), 0.28, 0.73),
}
"""As above; of what is positive, and not too large or small."""


def behind_a_sum(layer, features, terms=64):
    """A layer that is fed with sums that are off already."""
    return chain((*features[:-1], terms), ops.Linear(positive(features[-1], terms, seed=5)), layer)


@pytest.mark.rows(4)
@pytest.mark.full
@pytest.mark.parametrize(("layer", "features", "alone", "behind"), (LAYERS | STEEP).values(), ids=LAYERS | STEEP)
def test_no_engine_gets_beyond_it(layer, features, alone, behind):
    machine, fed = chain(features, layer), behind_a_sum(layer, features)
    assert worst(machine, TO_NEAREST, 1) <= 1
    assert worst(fed, TO_NEAREST[::3], 1) <= 1
    assert alone <= worst(machine, ONE_WAY) <= 1
    assert behind <= worst(fed, ONE_WAY[:2], 1) <= 1


@pytest.mark.full
@pytest.mark.parametrize(
    ("layer", "sign", "near"),
    [
        (ops.Add(), 1, 0.65),
        (ops.Multiply(), 1, 0.65),
        (ops.Subtract(), -1, 0.65),
        (ops.Divide(), -1, 0.4),  # of what has an even number of signs, the errors of two sums take each other away
        (ops.Concat(0), 1, 0.75),
    ],
)
def test_two_wrong_sums_are_joined(layer, sign, near):
    """Each is off by hundreds of roundings, to the side that makes it worse; joining them is one more."""
    weights = {"a": positive(3, 64), "b": sign * positive(3, 64, seed=1)}
    sums = [Node(name, ops.Linear(weight), ("x",)) for name, weight in weights.items()]
    machine = StateMachine((*sums, Node("c", layer, ("a", "b"))), (64,))
    assert worst(machine, TO_NEAREST) <= 1
    assert near <= worst(machine, ONE_WAY) <= 1


@pytest.mark.full
@pytest.mark.parametrize(("kind", "far"), [("max", 0.0), ("min", 1024.0)])
def test_the_best_of_a_wrong_sum_and_what_is_right_is_the_sum(kind, far):
    """The extreme of the errors is none of the extreme value: what is right stands beside it."""
    nodes = (
        Node("sum", ops.Linear(positive(1, 64)), ("x",)),
        Node("both", ops.ConstantPad(((0, 1),), far), ("sum",)),
        Node("best", ops.Reduce(kind, (0,), keepdims=True), ("both",)),
    )
    machine = StateMachine(nodes, (64,))
    assert worst(machine, ONE_WAY) <= 1


@pytest.mark.full
@pytest.mark.parametrize("order", [("sum", "x"), ("x", "sum")])
def test_a_wrong_sum_is_divided(order):
    """Or divides, what is right."""
    machine = chain((64,), ops.Linear(positive(64, 64)), names=["sum"])
    machine = StateMachine((*machine.nodes, Node("quotient", ops.Divide(), order)), (64,))
    assert worst(machine, TO_NEAREST) <= 1
    assert 0.7 <= worst(machine, ONE_WAY) <= 1


@pytest.mark.full
@pytest.mark.parametrize(("sums", "near"), [(True, 0.75), (False, 0.7)])
def test_matrices_are_multiplied(sums, near):
    """Two wrong sums, or what is right: then it is only the sum of the products itself."""
    linear = ops.Linear(positive(24, 64)) if sums else ops.Take(1, tuple(range(64)))
    nodes = (
        Node("a", linear, ("x",)),
        Node("turned", ops.Permute((1, 0)), ("a",)),
        Node("c", ops.MatMul(), ("turned", "a") if sums else ("a", "turned")),
    )
    machine = StateMachine(nodes, (2, 64))
    assert worst(machine, TO_NEAREST) <= 1
    assert near <= worst(machine, ONE_WAY) <= 1


@pytest.mark.full
@pytest.mark.parametrize(("layer", "near"), [(ops.Subtract(), 0.2), (ops.Divide(), 0.45)])
def test_an_input_and_itself_backwards_are_joined(layer, near):
    """Nothing but the rounding of the operation itself."""
    backwards = Node("b", ops.Take(0, tuple(range(50))[::-1]), ("x",))
    machine = StateMachine((backwards, Node("a", layer, ("x", "b"))), (50,))
    assert worst(machine, TO_NEAREST) <= 1
    assert near <= worst(machine, ONE_WAY) <= 1


def test_nothing_is_known_of_a_division_by_what_may_be_zero():
    """Large terms cancel: what is left is as small as what rounding may have done to them; not so beside it."""
    nodes = (
        Node("a", ops.Linear(np.array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])), ("x",)),
        Node("one", ops.Affine(np.zeros(2), np.ones(2)), ("a",)),
        Node("c", ops.Divide(), ("one", "a")),
    )
    machine, x = StateMachine(nodes, (3,)), torch.tensor([[[1.0, 1.0, 2.0**-22]]], dtype=torch.float64)
    bound = rounding_bounds(machine, x, {}, {}, "float32").outputs["y"].ravel()
    assert bound[0] == torch.inf
    assert 0 < bound[1] < 1e-5


ALIKE = 1 + 2.0 ** -np.arange(4, 36, 0.5) * np.random.default_rng(0).standard_normal((6, 64))
"""Six rows that differ less from column to column."""


@pytest.mark.full
def test_the_largest_of_sums_is_only_certain_where_it_is_clear():
    """Engines put another first where the bound leaves it open, and nowhere else: there it is zero."""
    machine = chain((64,), ops.Linear(nearest(ALIKE)), ops.ArgMax(0))
    x = np.concatenate([absorbed((T, B, 64), 2.0, 1), np.repeat(np.eye(64)[:, None], B, axis=1)])
    found = [attack(machine, engine, x) for engine in TO_NEAREST + ONE_WAY]
    assert 1 / 6 <= max(found) <= 1
    told = rounding_bounds(machine, torch.from_numpy(x), {}, {}, "float32").outputs["y"]
    assert set(told.unique().tolist()) == {0.0, 6.0}


@pytest.mark.full
@pytest.mark.parametrize("layer", [ops.ArgTopK(0, 3), ops.ArgTopK(0, 6, largest=False)])
def test_the_order_of_sums_is_only_certain_where_it_is_clear(layer):
    """Likewise; of exact numbers, too, where two of them are equal."""
    machine = chain((64,), ops.Linear(nearest(ALIKE)), layer)
    x = np.concatenate([absorbed((T, B, 64), 2.0, 1), np.repeat(np.eye(64)[:, None], B, axis=1)])
    found = [attack(machine, engine, x) for engine in TO_NEAREST + ONE_WAY]
    assert 1 / 6 <= max(found) <= 1
    told = rounding_bounds(machine, torch.from_numpy(x), {}, {}, "float32").outputs["y"]
    assert set(told.unique().tolist()) == {0.0, 6.0}
    equal = torch.tensor([[[1.0, 2.0, 2.0, 0.0, 0.0, 0.5]]], dtype=torch.float64)
    told = rounding_bounds(chain((6,), ops.ArgTopK(0, 6)), equal, {}, {}, "float32").outputs["y"]
    assert told.tolist() == [[[6.0, 6.0, 0.0, 0.0, 6.0, 6.0]]]


def test_an_order_is_off_by_what_the_worst_is():
    """The two largest of three sums, of which the largest loses most, and the smallest nothing."""
    weight = np.ones((3, 2000)) * [[1.0], [0.5], [0.0]]
    machine = chain((2000,), ops.Linear(weight), ops.TopK(0, 2))
    assert 0.2 <= max(attack(machine, engine, absorbed((3, 1, 2000), 2.0, 0)) for engine in ONE_WAY) <= 1


def test_a_sum_that_loses_is_overtaken_by_what_lies_in_between():
    """A sum loses up to a hundred units; beside it stands a number that is right, and smaller by as much or less."""
    x, found = absorbed((1, B, 64), 2.0, 0), []
    for units in range(0, 128, 8):
        rows = np.ones((2, 64)) * [[1.0], [0.0]]
        rows[1, 0] = 1 + units * 2 * U
        found.append(attack(chain((64,), ops.Linear(rows), ops.ArgMax(0)), Engine(down), x))
    assert {0.0, 0.5} == set(found)


@pytest.mark.full
@pytest.mark.parametrize(("layer", "near"), [(ops.Add(), 0.25), (ops.Multiply(), 0.5)])
def test_many_numbers_are_joined(layer, near):
    """Nothing but the rounding of the operation itself."""
    machine = StateMachine((Node("a", layer, ("x",) * 8),), (50,))
    assert worst(machine, TO_NEAREST) <= 1
    assert near <= worst(machine, ONE_WAY) <= 1


BEHIND_A_SIGMOID = {
    "layer": ops.Activation("sigmoid"),
    "neuron": neuron(o.Leak(2.0**-20, 0.5), o.Identity(), o.StrictLeak(1.0, 1.0), threshold=0.0),
}


@pytest.mark.parametrize("layer", BEHIND_A_SIGMOID.values(), ids=BEHIND_A_SIGMOID)
def test_what_is_left_of_an_error_behind_a_sigmoid(layer):
    """A quarter of it where the sigmoid is steepest, beside which its own error is small."""
    machine = chain((2000,), ops.Linear(np.ones((1, 2000))), layer)
    assert 0.65 <= attack(machine, Engine(down), absorbed((3, 1, 2000), 2.0, 0)) <= 1


@pytest.mark.full
@pytest.mark.parametrize("tau", [1.02, 1.3, 3.0, None])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_lif_under_pulses(tau, decay_input, reset):
    """What has hardly any memory takes away nearly all of a large number: what is left is mostly rounding."""
    if tau is None and decay_input:
        pytest.skip("no such neuron")
    machine = chain((50,), ops.LIFNeuron(tau, decay_input, 0.01, reset, ">="))
    engines = [Engine(rounded, fused=fused) for rounded in (nearest, down, up, cut_off) for fused in (False, True)]
    found = max(attack(machine, engine, pulses((8, 10, 50), seed)) for engine in engines for seed in range(3))
    assert (0.2 if tau == 1.02 else 0.0) <= found <= 1


SEARCHED = {name: chain(features, layer) for name, (layer, features, *_) in LAYERS.items() if len(features) == 1}


@pytest.mark.full
@given(
    name=st.sampled_from(list(SEARCHED)),
    seed=st.integers(0, 2**16),
    scale=st.floats(-20, 20),
    width=st.floats(0, 8),
    engine=st.sampled_from(TO_NEAREST + ONE_WAY),
)
@settings(max_examples=tries(60), deadline=None)
def test_a_search_for_worse_inputs(name, seed, scale, width, engine):
    """Hypothesis climbs towards the bound: numbers of any sign, any size, and any spread of sizes."""
    machine, random = SEARCHED[name], np.random.default_rng(seed)
    shape = (T, B, *machine.input_shape)
    x = nearest(random.standard_normal(shape) * 2.0 ** (scale + width * random.standard_normal(shape)))
    found = attack(machine, engine, x)
    target(found)
    assert found <= 1
