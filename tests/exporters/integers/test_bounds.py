"""No number leaves its interval, whatever the input; and the intervals are no wider than they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import psu_deploy as psu
from psu_deploy.exporters.integers import bounds
from psu_deploy.exporters.integers import fixed_point as fx
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.integers.input_code import calibrated, code_of
from psu_deploy.exporters.integers.lower import lower
from psu_deploy.exporters.integers.quantise import quantise
from psu_deploy.exporters.integers.reference import Reference, synapse_output
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests import zoo
from tests.exporters.integers import oracle
from tests.exporters.integers.hand_made import Numbers, layer

C, LIMIT = 3, 2**23 - 1


def reachable(operator):
    """What is due after the last step is never read; machines hold numbers there too, and they may saturate."""
    columns = operator.columns.copy()
    if len(columns) > 1:
        for t, row in enumerate(columns):
            row[len(columns) - t :] = 0
    return replace(operator, columns=columns)


MAKE = {
    "leak": lambda n, T: n.psu(),
    "traces": lambda n, T: n.psu(replace(n.traces(3), gains=n.ints(-4096, 4096, 3)), n.traces(2)),
    "no leak": lambda n, T: n.psu(ir.Traces(n.ints(4096, 4096, 1), n.ints(4096, 4096, 1), n.ints(-50, 50, C))),
    "matrix": lambda n, T: n.psu(reachable(n.sums(T, T)), reachable(n.sums(T, T))),
    "banded": lambda n, T: n.psu(reachable(n.sums(T, 3)), reset=n.reset(reachable(n.sums(T, 3, strict=True)))),
    "sliding": lambda n, T: n.psu(n.sums(1, 4), reset=n.reset(n.sums(1, 4, strict=True))),
    "levels": lambda n, T: n.psu(estimator=ir.Levels(np.sort(n.ints(-99, 99, 4, C), 0), n.ints(-4096, 4096, 5))),
    "raw": lambda n, T: n.psu(estimator=ir.Raw(), reset=n.reset(shift=12)),
    "negative reset": lambda n, T: n.psu(reset=replace(n.reset(), coefficient=-n.ints(1000, 4096, C))),
    "no reset": lambda n, T: n.psu(reset=None),
    "soft": lambda n, T: soft(n),
    "hard": lambda n, T: n.lif(hard=True),
    "if": lambda n, T: replace(soft(n), decay=4096),
    "cuba": lambda n, T: ir.Cuba(int(n.ints(0, 4095)), 300),
    "relay": lambda n, T: ir.Relay(4, None),
    "relay of traces": lambda n, T: ir.Relay(1, n.traces(3)),
    "relay of a matrix": lambda n, T: ir.Relay(1, reachable(n.sums(T, T))),
}  # fmt: skip


def soft(n):
    """As the quantiser makes it: the threshold is what is subtracted, rounded up; it may be negative."""
    subtract = n.ints(-300, 600, C)
    return replace(n.lif(), subtract=subtract, threshold=subtract + n.ints(0, 1, C))


def inputs(n, low, high, T):
    """All the largest, all the smallest, one after the other, and at random, (T, samples, C)."""
    ends = np.stack([low, high])
    alternating = ends[np.arange(T) % 2]
    rows = [np.repeat(high[None], T, 0), np.repeat(low[None], T, 0), alternating, alternating[::-1]]
    rows += [ends[n.random.integers(0, 2, T)] for _ in range(8)]
    rows += [n.random.integers(low, high + 1, (T, C)) for _ in range(4)]
    return np.stack(rows, axis=1)


@pytest.mark.full
@pytest.mark.parametrize("kind", MAKE)
@settings(max_examples=15)
@given(st.integers(0, 2**16), st.integers(1, 12), st.sampled_from([1, 30, 2000]))
def test_nothing_leaves_its_interval(kind, seed, T, loud):
    n = Numbers(seed, channels=C)
    neuron = MAKE[kind](n, T)
    if not isinstance(neuron, ir.Cuba):
        neuron = replace(neuron, fraction=n.ints(0, 2**neuron.fraction_bits - 1, C))
    low, high = -n.ints(0, loud, C), n.ints(0, loud, C)
    found = bounds.neuron_intervals(neuron, (low.astype(float), high.astype(float)), T)
    a = inputs(n, low, high, T)
    state, numbers = fx.initial_state(neuron, a.shape[1], (C,)), {}
    for t, row in enumerate(a):
        y = fx.fire(neuron, row, state, t)
        for role, values in state.items():
            numbers.setdefault(role, []).append(values.reshape(len(row), -1, C))
        if isinstance(neuron, ir.Relay):
            numbers.setdefault("y" if neuron.operator else "x", []).append(y[:, None])
    for role, rows in numbers.items():
        low, high = found[role.lower() if isinstance(neuron, ir.Cuba) else role]
        values = np.concatenate(rows, axis=1).reshape(-1, C)
        assert (values >= low).all(), role
        assert (values <= high).all(), role
        assert (low <= 0).all()
        assert (high >= 0).all()


@pytest.mark.full
@settings(max_examples=60)
@given(st.integers(0, 2**16), st.booleans())
def test_synapses(seed, image):
    """The sum of what each weight makes of the worst input; a convolution's padding is among the inputs."""
    n = Numbers(seed, channels=C)
    low, high = -int(n.ints(0, 50)), int(n.ints(0, 50))
    part = n.conv(2, C, (2, 2), padding=(1, 1)) if image else n.dense(12)
    a = bounds.synapse_interval(part, low, high)
    worst = np.where(part.weight.reshape(C, -1) > 0, high, low)
    best = np.where(part.weight.reshape(C, -1) > 0, low, high)
    place = layer(part, ir.Relay(), (C, 5, 5) if image else C)
    for sign, inputs_ in ((1, worst), (-1, best)):
        for c in range(C):
            one = inputs_[c].reshape(1, 1, *part.weight.shape[1:])
            x = np.zeros((1, 1, 2, 4, 4), int) if image else one
            if image:
                x[..., 1:3, 1:3] = one
            found = (sign * synapse_output(place, x)[0, 0, c]).max()
            end = (a[1] if sign > 0 else -a[0])[c]
            reachable_end = sign * ((part.weight.reshape(C, -1) * inputs_)[c].sum() + part.bias[c])
            assert found == reachable_end
            assert max(0, found) <= end <= max(0, found) + abs(part.bias[c])


# -- how tight ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0, 2048, 3000, 4000])
@pytest.mark.parametrize("steps", [1, 5, None])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_leak_attains_its_bound(decay, steps, sign):
    relay = ir.Relay(0, ir.Traces(np.array([decay]), np.array([sign * 4096]), np.array([0])))
    top = 10_000
    low, high = bounds.neuron_intervals(relay, (np.array([0.0]), np.array([float(top)])), steps)["y"]
    state = fx.initial_state(relay, 1, (1,))
    for t in range(400 if steps is None else steps):
        y = fx.fire(relay, np.array([[top]]), state, t).item()
    end = high if sign > 0 else -low
    assert 0.99 * end.item() <= sign * y <= end.item()
    assert (low if sign > 0 else high).item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_matrix_attains_its_bound(seed):
    T, n = 8, Numbers(seed, channels=1)
    columns = np.zeros((T, T), int)
    A = np.tril(n.ints(-4096, 4096, T, T))
    for t in range(T):
        columns[t, : T - t] = A[t:, t]
    relay = ir.Relay(2, ir.Sums(columns, np.zeros((T, 1), int)))
    low, high = 0, 5000
    ends = bounds.neuron_intervals(relay, (np.array([float(low)]), np.array([float(high)])), T)["y"]
    for sign, end in ((1, ends[1].item()), (-1, -ends[0].item())):
        best = 0
        for row in A:
            state = fx.initial_state(relay, 1, (1,))
            x = np.where(sign * row > 0, high, low)
            best = max(best, *(sign * fx.fire(relay, np.array([[v]]), state, t).item() for t, v in enumerate(x)))
        assert 0.98 * end <= best <= end


def test_a_time_invariant_window():
    relay = ir.Relay(0, ir.Sums(np.array([[4096, -2048, 1024]]), np.array([[100]])))
    found = bounds.neuron_intervals(relay, (np.array([-10.0]), np.array([20.0])), None)
    assert [end.item() for end in found["y before bias"]] == [-10 - 10 - 2.5, 20 + 5 + 5]
    assert [end.item() for end in found["y"]] == [-22.5, 130]


@pytest.mark.parametrize("neuron", [replace(soft(Numbers(0, channels=1)), decay=4096), ir.Cuba(4096, 3)])
def test_what_never_forgets_needs_a_number_of_steps(neuron):
    a = (np.array([-1.0]), np.array([1.0]))
    name = "v" if isinstance(neuron, ir.Cuba) else "V"
    assert (bounds.neuron_intervals(neuron, a, None)[name][1] > 1e6 * 2**23).all()
    assert not bounds.fits(bounds.neuron_intervals(neuron, a, None))
    up = 64 if isinstance(neuron, ir.Cuba) else 2**neuron.fraction_bits
    pushed = 0 if isinstance(neuron, ir.Cuba) else np.maximum(-neuron.subtract, 0)[:1].max()
    assert bounds.neuron_intervals(neuron, a, 7)[name][1].max() == 7 * (up + pushed)


def test_fits():
    one = {"a": (np.array([-3.0]), np.array([float(LIMIT)]))}
    assert bounds.fits(one)
    assert not bounds.fits(one | {"b": (np.array([-LIMIT - 1.0]), np.array([0.0]))})
    assert bounds.largest((np.array([-3.0, -9.0]), np.array([1.0, 8.0]))) == 9


# -- what the quantiser does with them ---------------------------------------------------------------------------------

PSU = zoo.neuron(zoo.LEAK, None, zoo.STRICT, threshold=0.1)


def chosen(machine, x):
    network, choices = quantise(lower(machine), code_of(calibrated(x, "max")), machine.max_steps, len(x))
    return network, choices


def wide(inputs, neuron=PSU, seed=0):
    weight = np.random.default_rng(seed).uniform(0.5, 1.0, (4, inputs))
    return oracle.machine((inputs,), ops.Linear(weight, np.ones(4)), neuron)


@pytest.mark.parametrize("top", [1, 7, 255])
@pytest.mark.parametrize("inputs", [4, 200, 2000])
def test_bits_go_where_room_is_short(inputs, top):
    """All inputs at their largest at every step: what was proven is so."""
    machine = wide(inputs)
    x = np.full((12, 1, inputs), float(top), np.float32)
    network, (choice,) = chosen(machine, x)
    states = []
    Reference(network, 1).advance(np.full(x.shape, top), lambda _, state: states.append(np.abs(state["V"]).max()))
    assert max(states) <= choice.bounds["V"] <= LIMIT
    # the next finer form would not have fitted: one bit more in the state, or in the weight, doubles everything
    if (choice.bits, choice.layer.neuron.fraction_bits) != (8, 8):
        assert max(choice.bounds.values()) > LIMIT / 2.1


def test_few_inputs_keep_every_bit():
    _, (choice,) = chosen(wide(4), np.ones((3, 1, 4), np.float32))
    assert (choice.bits, choice.layer.neuron.fraction_bits) == (8, 8)


def test_many_graded_inputs_cost_bits_of_the_weights():
    _, (choice,) = chosen(wide(2000), np.full((3, 1, 2000), 255, np.float32))
    assert choice.bits < 8
    assert np.abs(choice.layer.synapse.weight).max() == 2 ** (choice.bits - 1) - 1


def test_a_layer_that_does_not_fit_is_named():
    many = oracle.machine((40_000,), ops.Linear(np.ones((1, 40_000)) - np.eye(1, 40_000) / 2), PSU)
    with pytest.raises(psu.UnsupportedModelError) as error:
        chosen(many, np.full((3, 1, 40_000), 255, np.float32))
    (problem,) = error.value.problems
    assert (problem.path, problem.kind) == ("l1", "SpikingNeuron")
    assert "its states do not fit into 24 bits" in problem.reason
    most = 255 * (39_999 * 3 + 2)  # in three bits 1 is 3, and a half of it is 2
    assert f"with 3-bit weights the summed input alone can reach {most:,} of 8,388,607" in problem.reason
    assert "with 3-bit weights" in problem.reason
    assert f"of {LIMIT:,}" in problem.reason
    assert "scale the input down" in problem.remedy


def test_every_layer_that_does_not_fit_is_named():
    huge = ops.LIFNeuron(None, False, 1e-3, "soft", ">=")
    weight = np.ones((300, 300)) - np.eye(300) / 2
    machine = oracle.machine((300,), ops.Linear(weight), huge, ops.Linear(weight), PSU, ops.Linear(weight), huge)
    with pytest.raises(psu.UnsupportedModelError) as error:
        quantise(lower(machine), ir.InputCode(1.0, 0, 1), None, 100_000)
    assert [problem.path for problem in error.value.problems] == ["l1", "l5"]
    assert all("over 100000 steps" in problem.reason for problem in error.value.problems)


def test_a_neuron_without_a_leak_is_defined_for_the_steps_of_the_calibration():
    neuron = ops.LIFNeuron(None, False, 0.3, "soft", ">=")
    machine = wide(4, neuron)
    network, _ = chosen(machine, np.ones((9, 1, 4), np.float32))
    assert network.horizon == 9
    assert chosen(wide(4), np.ones((9, 1, 4), np.float32))[0].horizon is None
    keeps = zoo.neuron(o.Leak(0.5, 1.0), None, o.StrictLeak(0.5, 1.0))
    assert chosen(wide(4, keeps), np.ones((5, 1, 4), np.float32))[0].horizon == 5
    learned = zoo.neuron(zoo.LEARNED, None, o.StrictLeak(0.5, 1.0))
    assert chosen(wide(4, learned), np.ones((5, 1, 4), np.float32))[0].horizon == zoo.STEPS


def test_numbers_of_a_layer_bound_the_next():
    """Two layers without a neuron in between: what the first may send is what the second must bear."""
    pool = ops.AvgPool((3, 3), (2, 2), ((0, 0), (0, 0)))
    conv = ops.Conv2d(np.random.default_rng(0).normal(0, 1, (3, 1, 2, 2)), None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    machine = oracle.machine((1, 7, 7), pool, conv, PSU)
    network, (first, second) = chosen(machine, np.full((3, 1, 1, 7, 7), 200, np.float32))
    assert first.bounds["a"] == 9 * 200
    weight = network.layers[1].synapse.weight
    sums = [np.maximum(sign * weight, 0).sum((1, 2, 3)).max() for sign in (1, -1)]
    assert second.bounds["a"] == 1800 * max(sums)
