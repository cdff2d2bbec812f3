"""Every operation of the integer network against Python's own integers, which have no size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psu_deploy.exporters.integers import fixed_point as fx
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.exporters.integers.reference import Reference, synapse_output
from psu_deploy.numerics.sigmoid_table import knots
from tests.exporters.integers import hand_made, integers
from tests.exporters.integers.hand_made import Numbers, layer
from tests.exporters.integers.integers import LIMIT

words = st.integers(-LIMIT, LIMIT) | st.sampled_from([0, 1, -1, LIMIT, -LIMIT, 4095, 4096, -4096])
factors = st.integers(-8192, 8192)


def array(*values):
    return np.array(values, np.int64)


def test_constants():
    assert fx.STATE_MAX == LIMIT == 2**23 - 1
    assert fx.UNITY == 4096
    assert knots().tolist() == integers.KNOTS


@given(st.integers(-(2**40), 2**40))
def test_saturate(x):
    assert fx.saturate(array(x)).tolist() == [integers.clamp(x)]


@given(words, factors, st.integers(0, 30))
def test_multiply(x, factor, shift):
    expected = integers.times(x, factor, shift)
    assert fx.multiply(array(x), factor, shift).tolist() == [expected]
    assert fx.multiply(array(x), array(factor), array(shift)).tolist() == [expected]
    assert fx.multiply(array(x), factor).tolist() == [integers.times(x, factor)]


@pytest.mark.parametrize(
    ("x", "factor", "shift", "expected"),
    [(3, 1, 1, 1), (-3, 1, 1, -1), (-1, 1, 1, 0), (-1, 4095, 12, 0), (-4096, 1, 12, -1), (7, -1, 2, -1), (1, 1, 0, 1)],
)
def test_multiply_rounds_towards_zero(x, factor, shift, expected):
    assert fx.multiply(array(x), factor, shift).tolist() == [expected]


@given(words, st.integers(0, 8), st.integers(0, 255))
def test_current(a, up, more):
    neuron = ir.Relay(up, None, array(more % 2**up))
    assert fx.current(array(a)[None], neuron).tolist() == [[integers.clamp(a * 2**up + more % 2**up)]]


def test_a_fraction_of_every_channel():
    neuron = ir.Relay(2, None, array(0, 1, 3))
    assert fx.current(array([1, 1, -1], [0, 0, 0]), neuron).tolist() == [[4, 5, -1], [0, 1, 3]]


@given(words, st.integers(-8192, 8192), st.integers(0, 30))
def test_table(E, coefficient, shift):
    estimator = ir.Table(array(coefficient), array(shift))
    found = fx.estimated_spike(estimator, array(E)[None])
    assert found.tolist() == [[integers.estimated(estimator, E, 0)]]


def test_every_place_of_the_table():
    z = np.arange(-8300, 8300)
    found = fx.estimated_spike(ir.Table(array(1), array(0)), z[None])[0]
    estimator = ir.Table(array(1), array(0))
    assert found.tolist() == [integers.estimated(estimator, int(value), 0) for value in z]
    assert abs(found / 4096 - 1 / (1 + np.exp(-z / 1024))).max() < 0.003
    assert (np.diff(found) >= 0).all()


def test_a_level_is_reached_by_what_equals_it():
    estimator = ir.Levels(array([-5], [0], [7]), array(0, 10, 20, 30))
    found = fx.estimated_spike(estimator, array(-6, -5, -1, 0, 6, 7, 8)[:, None])
    assert found[:, 0].tolist() == [0, 10, 10, 20, 20, 30, 30]


def test_levels_of_every_channel():
    estimator = ir.Levels(array([0, 10], [5, 20]), array(1, 2, 3))
    found = fx.estimated_spike(estimator, array([4, 4], [5, 10], [5, 20]))
    assert found.tolist() == [[2, 1], [3, 2], [3, 3]]


# -- neurons -----------------------------------------------------------------------------------------------------------

MAKE = {
    "leak": lambda n, T: n.psu(),
    "three traces": lambda n, T: n.psu(n.traces(3), n.traces(2)),
    "matrix": lambda n, T: n.psu(n.sums(T, T)),
    "matrix estimate": lambda n, T: n.psu(estimate=n.sums(T, T)),
    "sliding": lambda n, T: n.psu(n.sums(1, 3), reset=None),
    "one tap": lambda n, T: n.psu(n.sums(1, 1)),
    "banded, banded reset": lambda n, T: n.psu(n.sums(T, 3), reset=n.reset(n.sums(T, 4, strict=True))),
    "sliding reset": lambda n, T: n.psu(reset=n.reset(n.sums(1, 2, strict=True))),
    "levels": lambda n, T: n.psu(estimator=n.levels()),
    "raw": lambda n, T: n.psu(estimator=ir.Raw(), reset=n.reset(shift=11)),
    "soft": lambda n, T: n.lif(),
    "hard": lambda n, T: n.lif(hard=True),
    "cuba": lambda n, T: ir.Cuba(int(n.ints(0, 4096)), int(n.ints(0, 300))),
    "relay": lambda n, T: ir.Relay(),
    "relay of traces": lambda n, T: ir.Relay(3, n.traces(2)),
    "relay of sums": lambda n, T: ir.Relay(2, n.sums(1, 3)),
}


def fire_all(neuron, a):
    state = fx.initial_state(neuron, a.shape[1], a.shape[2:])
    return np.stack([fx.fire(neuron, row, state, t) for t, row in enumerate(a)])


def check(neuron, a):
    found = fire_all(neuron, a)
    for place, expected in integers.run(neuron, a).items():
        assert found[(slice(None), *place)].tolist() == expected
    return found


@pytest.mark.parametrize("kind", MAKE)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**16),
    T=st.integers(1, 12),
    loud=st.sampled_from([60, 200, 20_000, LIMIT]),
    more=st.sampled_from([(), (2, 2)]),
)
def test_a_neuron(kind, seed, T, loud, more):
    """From whispers to currents that saturate everything."""
    numbers = Numbers(seed, channels=3, loud=min(loud, LIMIT // 3))
    neuron = MAKE[kind](numbers, T)
    if not isinstance(neuron, ir.Cuba):
        neuron = replace(neuron, fraction=numbers.ints(0, 2**neuron.fraction_bits - 1, 3))
    check(neuron, numbers.ints(-loud, loud, T, 2, 3, *more))


@pytest.mark.parametrize("kind", MAKE)
def test_silence(kind):
    """A threshold above zero, biases of zero: nothing happens but what the sigmoid of nothing leaves behind."""
    check(MAKE[kind](Numbers(1, channels=3), 7), np.zeros((7, 2, 3), np.int64))


def leak(decay, threshold=10, reset=None, up=0, gain=4096):
    return ir.PSU(up, ir.Traces(array(decay), array(gain), array(0)), None, ir.Raw(), reset, array(threshold))


def test_a_tie_fires():
    assert fire_all(leak(0), array([[10]], [[9]], [[11]])).ravel().tolist() == [1, 0, 1]
    lif = ir.LIF(0, 4096, array(10), array(10), hard=False)
    assert fire_all(lif, array([[4]], [[6]], [[9]], [[1]], [[0]])).ravel().tolist() == [0, 1, 0, 1, 0]
    cuba = ir.Cuba(4096, 10)
    assert fire_all(cuba, array([[10]], [[1]], [[10]], [[0]])).ravel().tolist() == [0, 1, 0, 0]


def test_one_channel_for_all_or_a_number_for_each():
    a = array([[[[9]], [[10]]]])
    assert fire_all(leak(0), a).ravel().tolist() == [0, 1]
    each = ir.PSU(0, ir.Traces(array(0), array(4096), array(0)), None, ir.Raw(), None, array(9, 11))
    assert fire_all(each, a).ravel().tolist() == [1, 0]


def test_the_reset_is_read_before_it_is_written():
    """The first step is free, the second pays for the first."""
    reset = ir.Reset(array(4096), array(0), 2048)
    neuron = ir.PSU(
        0, ir.Traces(array(0), array(4096), array(0)), None, ir.Levels(array([[0]])[0], array(0, 1)), reset, array(10)
    )
    # S' = 1 at every step: Q = 4096, R = 0, 2048, (2048 + 4096) / 2, ...
    a = array([[10]], [[2057]], [[3082]], [[3082]])
    assert fire_all(neuron, a).ravel().tolist() == [1, 0, 1, 0]
    assert check(neuron, a).ravel().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_everything_saturates(sign):
    """Accumulated without a leak, and taken back: what was cut off is lost."""
    a = array(*[[[sign * LIMIT]]] * 3, [[-sign * LIMIT]], [[-sign * 5]])
    relay = ir.Relay(0, ir.Traces(array(4096), array(4096), array(0)))
    assert fire_all(relay, a).ravel().tolist() == [sign * LIMIT] * 3 + [0, -sign * 5]
    sums = ir.Relay(8, ir.Sums(array([4096, 4096]), array([sign * 7])))
    assert fire_all(sums, a).ravel().tolist() == [sign * LIMIT] * 3 + [sign * 7, -sign * (LIMIT - 7)]


def test_initial_state():
    n = Numbers(0, channels=3)
    state = fx.initial_state(n.psu(n.traces(2), n.sums(5, 4)), 2, (3, 4, 4))
    assert {role: values.shape for role, values in state.items()} == {
        "V": (2, 2, 3, 4, 4),
        "E": (2, 3, 3, 4, 4),
        "R": (2, 3, 4, 4),
    }
    assert not any(values.any() for values in state.values())
    assert fx.initial_state(n.psu(reset=None), 2, (3,)).keys() == {"V"}
    assert fx.initial_state(ir.Relay(), 2, (3,)) == {}


# -- synapses and whole networks ---------------------------------------------------------------------------------------


def raw_product(weight, x, bias):
    """Sums of Python integers, saturated, then the bias."""
    total = (weight.astype(object)[None] * x.astype(object)[:, None]).sum(-1)
    return [[integers.clamp(int(v)) + int(b) for v, b in zip(row, bias, strict=True)] for row in total]


@settings(max_examples=60)
@given(st.integers(0, 2**16), st.sampled_from([1, 255, 1024, 30_000, LIMIT]), st.integers(1, 60))
def test_dense(seed, loud, inputs):
    """Beyond 2^24 single precision would lose the last bit."""
    n = Numbers(seed, channels=3)
    part = n.dense(inputs)
    x = n.ints(-loud, loud, 2, 2, inputs)
    found = synapse_output(layer(part, ir.Relay(), 3), x)
    assert found.reshape(4, 3).tolist() == raw_product(part.weight, x.reshape(4, -1), part.bias)


@pytest.mark.parametrize("at", [2**24 // 127 - 1, 2**24 // 127, 2**24 // 127 + 1, 2**24 // 127 + 3])
def test_at_the_end_of_single_precision(at):
    part = ir.Dense(array([127, 1, 1]), array(0))
    x = array(at, 1, 1).reshape(1, 1, 3)
    assert synapse_output(layer(part, ir.Relay(), 1), x).item() == min(127 * at + 2, LIMIT)
    part = ir.Dense(array([127, 127, -127, 1]), array(0))
    x = array(at, at, at, 1).reshape(1, 1, 4)
    assert synapse_output(layer(part, ir.Relay(), 1), x // 2).item() == integers.clamp(127 * (at // 2))


@pytest.mark.full
@settings(max_examples=40)
@given(st.data())
def test_conv(data):
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = (data.draw(pair) for _ in range(3))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    groups, n = data.draw(st.sampled_from([1, 2])), Numbers(data.draw(st.integers(0, 999)))
    part = n.conv(4, 6, kernel, stride, padding, dilation, groups)
    loud = data.draw(st.sampled_from([1, 300, 2**18]))
    x = n.ints(-loud, loud, 2, 3, 4, 7, 8)
    expected = np.stack(
        [
            hand_made.synapse(
                ir.Conv(part.weight.astype(object), part.bias * 0, stride, padding, dilation, groups), row
            )
            for row in x
        ]
    )
    expected = np.clip(expected.astype(np.int64), -LIMIT, LIMIT) + part.bias.reshape(-1, 1, 1)
    np.testing.assert_array_equal(synapse_output(layer(part, ir.Relay(), expected.shape[2:]), x), expected)


def network(seed=0, T=6):
    n = Numbers(seed, channels=3)
    layers = (
        layer(n.conv(2, 3, (2, 2)), MAKE["matrix"](n, T), (3, 3, 3)),
        layer(n.dense(27), MAKE["leak"](n, T), 3, flatten=True),
        layer(n.dense(3), ir.Relay(0, None), 3),
    )
    return ir.IntegerNetwork(layers, (2, 4, 4), ir.InputCode(0.25, -3, 9), T, np.ones(1)), n


def test_a_network_is_its_layers():
    net, n = network()
    x = n.ints(-3, 9, 6, 2, 2, 4, 4)
    sent = Reference(net, 2).advance(x)
    for found, expected in zip(sent, hand_made.run(net.layers, x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5), (2,), (5,)])
def test_in_parts(cuts):
    net, n = network()
    x = n.ints(-3, 9, 6, 2, 2, 4, 4)
    whole, parts = Reference(net, 2).advance(x), Reference(net, 2)
    pieces = [parts.advance(piece) for piece in np.split(x, cuts)]
    for index, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([piece[index] for piece in pieces]), expected)


def test_an_observer_sees_every_state():
    net, n = network()
    seen = []
    Reference(net, 2).advance(n.ints(-3, 9, 6, 2, 2, 4, 4), lambda index, state: seen.append((index, set(state))))
    assert seen == [(0, {"V", "R"})] * 6 + [(1, {"V", "R"})] * 6 + [(2, set())] * 6


def test_encode():
    net, _ = network()
    x = np.zeros((1, 1, 2, 4, 4), np.float32)
    x.flat[:8] = [0.25, 0.3, 0.374, 0.38, -0.6, -9.0, 2.25, 99.0]
    x.flat[8:12] = [0.125, 0.375, -0.125, -0.375]  # halves go to the even one
    assert encode(net, x).ravel()[:12].tolist() == [1, 1, 1, 2, -2, -3, 9, 9, 0, 2, 0, -2]
    assert encode(net, x.reshape(1, 1, 32)).shape == (1, 1, 2, 4, 4)
