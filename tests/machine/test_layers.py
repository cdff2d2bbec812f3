"""Every kind of layer against plain loops over its windows, steps and channels in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from psu_deploy.errors import StateError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.context import Context
from tests.helpers import ROUNDING, apply, per_step, sigmoid, step_by_step
from tests.oracles import matrix_of
from tests.zoo import NETWORKS, OPERATORS, STEPS


def one_layer(layer: ops.Layer, features: tuple[int, ...]) -> StateMachine:
    return StateMachine((Node("layer", layer, ("x",)),), features)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def windows(x, kernel, stride, padding, dilation, fill=0.0):
    """(C, *size) -> (*out, C, *kernel): what every output position looks at."""
    padded = np.pad(x, [(0, 0), *padding], constant_values=fill)
    sizes = zip(padded.shape[1:], kernel, stride, dilation, strict=True)
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes]
    result = np.empty((*out, len(x), *kernel))
    for position in np.ndindex(*out):
        taps = [i * s + d * np.arange(k) for i, k, s, d in zip(position, kernel, stride, dilation, strict=True)]
        result[position] = padded[(slice(None), *np.ix_(*taps))]
    return result


def correlate(x, layer):
    """Raw cross-correlation of one sample."""
    kernel = layer.weight.shape[2:]
    looked_at = windows(x, kernel, layer.stride, layer.padding, layer.dilation)
    axes = len(kernel)
    per_group = len(layer.weight) // layer.groups
    outputs = []
    for o, weight in enumerate(layer.weight):
        first = (o // per_group) * weight.shape[0]
        seen = looked_at[(*[slice(None)] * axes, slice(first, first + weight.shape[0]))]
        bias = 0.0 if layer.bias is None else layer.bias[o]
        outputs.append((seen * weight).sum(tuple(range(axes, 2 * axes + 1))) + bias)
    return np.stack(outputs)


def pool(x, layer, reduce, fill=0.0):
    """(C, *size) -> (C, *out), reduce over the last axes of every window."""
    looked_at = windows(x, layer.kernel, layer.stride, layer.padding, (1,) * len(layer.kernel), fill)
    axes = len(layer.kernel)
    return np.moveaxis(reduce(looked_at, axis=tuple(range(-axes, 0))), -1, 0)


def mean_without_padding(x, layer):
    return pool(x, layer, np.sum) / pool(np.ones_like(x), layer, np.sum)


def per_sample(function, x):
    return np.stack([np.stack([function(sample) for sample in step]) for step in x])


CONVOLUTIONS = {
    "plain": (ops.Conv1d(normal(4, 3, 3), normal(4), (1,), ((0, 0),), (1,), 1), (3, 8)),
    "no bias, one channel": (ops.Conv1d(normal(1, 1, 1), None, (1,), ((0, 0),), (1,), 1), (1, 1)),
    "stride, dilation": (ops.Conv1d(normal(2, 3, 3), normal(2), (3,), ((2, 2),), (2,), 1), (3, 11)),
    "asymmetric padding": (ops.Conv1d(normal(2, 3, 4), normal(2), (1,), ((1, 2),), (1,), 1), (3, 7)),
    "groups": (ops.Conv1d(normal(6, 2, 3), normal(6), (2,), ((0, 3),), (1,), 3), (6, 9)),
    "depthwise": (ops.Conv1d(normal(4, 1, 2), None, (1,), ((1, 0),), (1,), 4), (4, 5)),
    "2d": (ops.Conv2d(normal(4, 3, 3, 3), normal(4), (1, 1), ((1, 1), (1, 1)), (1, 1), 1), (3, 5, 6)),
    "2d asymmetric": (
        ops.Conv2d(normal(4, 2, 2, 3), normal(4), (2, 1), ((0, 1), (2, 0)), (1, 2), 1),
        (2, 7, 6),
    ),
    "2d groups": (ops.Conv2d(normal(4, 1, 1, 4), None, (1, 3), ((1, 0), (0, 2)), (1, 1), 4), (4, 3, 9)),
    "2d groups dilated": (ops.Conv2d(normal(6, 2, 3, 1), normal(6), (1, 2), ((2, 2), (0, 0)), (3, 1), 2), (4, 6, 5)),
}


@pytest.mark.parametrize(("layer", "features"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(layer, features):
    x = normal(2, 3, *features, seed=1)
    np.testing.assert_allclose(
        one_layer(layer, features).run(x), per_sample(lambda s: correlate(s, layer), x), **ROUNDING
    )


@st.composite
def convolutions(draw):
    axes = draw(st.sampled_from([1, 2]))
    groups, per_group, out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * axes))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * axes))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * axes))
    smallest = [max(1, d * (k - 1) + 1 - sum(p)) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [draw(st.integers(n, 10)) for n in smallest]
    stride = draw(st.tuples(*[st.integers(1, 4)] * axes))
    bias = normal(out * groups) if draw(st.booleans()) else None
    kind = ops.Conv1d if axes == 1 else ops.Conv2d
    weight = normal(out * groups, per_group, *kernel, seed=draw(st.integers(0, 99)))
    return kind(weight, bias, stride, padding, dilation, groups), (groups * per_group, *size)


@pytest.mark.full
@given(convolutions())
@settings(max_examples=60)
def test_any_convolution(example):
    layer, features = example
    x = normal(1, 2, *features, seed=1)
    got = one_layer(layer, features).run(x)
    np.testing.assert_allclose(got, per_sample(lambda s: correlate(s, layer), x), **ROUNDING)
    assert got.shape[2:] == one_layer(layer, features).shapes["layer"]


WINDOWS = {
    "1d": ((2,), (2,), ((0, 0),), (3, 7)),
    "1d overlapping, padded": ((3,), (1,), ((1, 1),), (3, 7)),
    "1d asymmetric padding": ((3,), (2,), ((0, 2),), (2, 6)),
    "1d one value": ((1,), (1,), ((0, 0),), (1, 1)),
    "2d": ((2, 2), (2, 2), ((0, 0), (0, 0)), (3, 5, 6)),
    "2d asymmetric": ((3, 2), (1, 3), ((1, 0), (0, 1)), (2, 5, 6)),
    "2d whole image": ((4, 5), (1, 1), ((0, 0), (0, 0)), (2, 4, 5)),
}


@pytest.mark.parametrize(("kernel", "stride", "padding", "features"), WINDOWS.values(), ids=WINDOWS)
class TestPooling:
    def check(self, layer, features, raw):
        x = normal(2, 3, *features)
        np.testing.assert_allclose(one_layer(layer, features).run(x), per_sample(raw, x), **ROUNDING)

    def test_mean(self, kernel, stride, padding, features):
        layer = ops.AvgPool(kernel, stride, padding)
        self.check(layer, features, lambda s: pool(s, layer, np.mean))

    def test_mean_without_padding(self, kernel, stride, padding, features):
        layer = ops.AvgPool(kernel, stride, padding, count_padding=False)
        self.check(layer, features, lambda s: mean_without_padding(s, layer))

    def test_sum(self, kernel, stride, padding, features):
        layer = ops.SumPool(kernel, stride, padding)
        self.check(layer, features, lambda s: pool(s, layer, np.sum))

    def test_max(self, kernel, stride, padding, features):
        layer = ops.MaxPool(kernel, stride, padding)
        self.check(layer, features, lambda s: pool(s, layer, np.max, fill=-np.inf))


def test_sum_of_spikes_is_a_whole_number():
    machine = one_layer(ops.SumPool((49,), (1,), ((0, 0),)), (1, 49))
    x = np.tril(np.ones((49, 49)))[:, None, None, :].astype(np.float32)
    assert machine.run(x).ravel().tolist() == list(range(1, 50))


@pytest.mark.parametrize("features", [(5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("bias", [normal(4), None])
def test_linear_acts_on_the_last_axis(features, bias):
    weight, x = normal(4, 5), normal(2, 3, *features)
    expected = np.einsum("oi,tb...i->tb...o", weight, x) + (0 if bias is None else bias)
    np.testing.assert_allclose(one_layer(ops.Linear(weight, bias), features).run(x), expected, **ROUNDING)


@pytest.mark.parametrize("features", [(3,), (3, 4), (3, 2, 4)])
def test_channel_affine_acts_on_the_first_axis(features):
    scale, shift, x = normal(3), normal(3, seed=1), normal(2, 4, *features)
    expected = x * scale.reshape(-1, *[1] * (len(features) - 1)) + shift.reshape(-1, *[1] * (len(features) - 1))
    np.testing.assert_array_equal(one_layer(ops.ChannelAffine(scale, shift), features).run(x), expected)


@pytest.mark.parametrize("features", [(3,), (3, 4), (3, 2, 4)])
def test_flatten_runs_the_last_axis_fastest(features):
    x = normal(2, 4, *features)
    expected = np.stack([[sample.ravel(order="C") for sample in step] for step in x])
    np.testing.assert_array_equal(one_layer(ops.Flatten(), features).run(x), expected)


@pytest.mark.parametrize("inputs", [("x", "x"), ("x", "twice"), ("twice", "x", "twice")])
def test_add(inputs):
    x = normal(2, 3, 4)
    double = Node("twice", ops.ChannelAffine(np.full(4, 2.0), np.zeros(4)), ("x",))
    machine = StateMachine((double, Node("add", ops.Add(), inputs)), (4,))
    expected = sum({"x": 1, "twice": 2}[name] for name in inputs) * x
    np.testing.assert_allclose(machine.run(x), expected, **ROUNDING)


@pytest.mark.parametrize("T", [1, 2, 6])
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_delay(steps, T):
    x = normal(T, 2, 3)
    expected = np.concatenate([np.zeros((steps, 2, 3)), x])[:T]
    machine = one_layer(ops.Delay(steps), (3,))
    np.testing.assert_array_equal(machine.run(x), expected)
    assert machine.state_spec["layer.buffer"].shape == (steps, 3)


@pytest.mark.parametrize("steps", [1, 3])
def test_waiting_is_a_delay_that_counts_as_latency(steps):
    x, delay, wait = normal(6, 2, 3), one_layer(ops.Delay(steps), (3,)), one_layer(ops.Wait(steps), (3,))
    np.testing.assert_array_equal(wait.run(x), delay.run(x))
    assert (wait.latency, delay.latency) == (steps, 0)


def convolve_along_time(x, layer):
    """(T, B, C) -> (T, B, C'), by the sum over lags and features, nothing before the first step."""
    outputs, per_group, kernel = layer.weight.shape
    y = np.zeros((*x.shape[:2], outputs))
    for t, o, lag, i in np.ndindex(len(x), outputs, kernel, per_group):
        if t - lag >= 0:
            feature = o // (outputs // layer.groups) * per_group + i
            y[t, :, o] += layer.weight[o, i, kernel - 1 - lag] * x[t - lag, :, feature]
    return y if layer.bias is None else y + layer.bias


TIME_CONVOLUTIONS = {
    "plain": (ops.TimeConv(normal(4, 3, 3), normal(4), 1), 3),
    "one step": (ops.TimeConv(normal(4, 3, 1), None, 1), 3),
    "one feature": (ops.TimeConv(normal(1, 1, 5), normal(1), 1, lookahead=1), 1),
    "groups": (ops.TimeConv(normal(6, 2, 4), normal(6), 3, lookahead=2), 6),
    "depthwise, looking ahead only": (ops.TimeConv(normal(3, 1, 3), None, 3, lookahead=2), 3),
}


@pytest.mark.parametrize("T", [1, 2, 63])
@pytest.mark.parametrize(("layer", "features"), TIME_CONVOLUTIONS.values(), ids=TIME_CONVOLUTIONS)
def test_convolution_along_time(layer, features, T):
    """Late by what it looks ahead, and zero until then."""
    x, machine = normal(T, 2, features), one_layer(layer, (features,))
    expected = convolve_along_time(x, layer)
    expected[: layer.lookahead] = 0.0
    np.testing.assert_allclose(machine.run(x), expected, **ROUNDING)
    assert machine.latency == layer.lookahead
    memory = {name: spec.shape for name, spec in machine.state_spec.items() if spec.batched}
    assert memory == ({"layer.inputs": (layer.order - 1, features)} if layer.order > 1 else {})


@pytest.mark.parametrize("name", ["plain", "one feature", "groups"])
def test_convolution_along_time_agrees_with_torch(name):
    layer, features = TIME_CONVOLUTIONS[name]
    x = normal(9, 2, features)
    padded = F.pad(torch.from_numpy(x).permute(1, 2, 0), (layer.order - 1, 0))
    expected = F.conv1d(padded, torch.tensor(layer.weight), torch.tensor(layer.bias), groups=layer.groups)
    np.testing.assert_allclose(convolve_along_time(x, layer), expected.permute(2, 0, 1), **ROUNDING)


@pytest.mark.parametrize("features", [(3,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_filter_is_its_matrix(name, features):
    machine = one_layer(ops.Filter(OPERATORS[name]), features)
    x = normal(machine.horizon or STEPS, 2, *features)
    A, b = matrix_of(OPERATORS[name], len(x))
    np.testing.assert_allclose(machine.run(x), apply(A, x) + per_step(b, x), **ROUNDING)


def test_a_filter_remembers_what_its_operator_does():
    """Role y; none for an operator without memory."""
    machine = one_layer(ops.Filter(OPERATORS["biased exponentials"]), (2, 5))
    assert {name: spec.shape for name, spec in machine.state_spec.items()} == {"layer.y": (3, 2, 5)}
    assert one_layer(ops.Filter(OPERATORS["identity"]), (2, 5)).state_spec == {}
    assert one_layer(ops.Filter(OPERATORS["learned"]), (2, 5)).horizon == STEPS


@pytest.mark.parametrize("T", [1, 7])
def test_hold_gives_the_first_value_for_ever(T):
    x = normal(T, 2, 3)
    np.testing.assert_array_equal(one_layer(ops.Hold(), (3,)).run(x), np.broadcast_to(x[0], x.shape))


def test_what_only_a_hold_reads_is_computed_once():
    double = Node("double", ops.ChannelAffine(np.full(3, 2.0), np.zeros(3)), ("x",))
    held = Node("held", ops.Hold(), ("double",))
    assert StateMachine((double, held), (3,)).once == {"double"}
    assert StateMachine((double, held), (3,), "double").once == set()
    assert StateMachine((double, held, Node("sum", ops.Add(), ("double", "held"))), (3,)).once == set()
    summed = Node("double", ops.Readout("sum"), ("x",))
    assert StateMachine((summed, held), (3,)).once == set(), "what has a memory runs at every step"


def test_multiply():
    x = normal(3, 2, 4)
    shifted = Node("shifted", ops.ChannelAffine(np.ones(4), np.full(4, 0.5)), ("x",))
    machine = StateMachine((shifted, Node("product", ops.Multiply(), ("x", "shifted", "x"))), (4,))
    np.testing.assert_allclose(machine.run(x), x * (x + 0.5) * x, **ROUNDING)


@pytest.mark.parametrize(("kind", "raw"), [("relu", lambda x: np.maximum(x, 0)), ("sigmoid", sigmoid)])
def test_activation(kind, raw):
    x = np.concatenate([normal(3, 2, 4), np.full((1, 2, 4), 40.0), np.full((1, 2, 4), -40.0), np.zeros((1, 2, 4))])
    np.testing.assert_allclose(one_layer(ops.Activation(kind), (4,)).run(x), raw(x), **ROUNDING)


@pytest.mark.parametrize("T", [1, 2, 63])
def test_readout(T):
    x = normal(T, 2, 3)
    so_far = np.arange(1, T + 1)[:, None, None]
    for kind, expected in [("sum", np.cumsum(x, 0)), ("mean", np.cumsum(x, 0) / so_far), ("last", x)]:
        np.testing.assert_allclose(one_layer(ops.Readout(kind), (3,)).run(x), expected, **ROUNDING)


LAYERS = {
    **{f"conv {name}": value for name, value in CONVOLUTIONS.items()},
    "avg": (ops.AvgPool((2,), (1,), ((1, 0),), False), (2, 5)),
    "sum": (ops.SumPool((2, 3), (1, 2), ((0, 0), (1, 1))), (2, 4, 5)),
    "max": (ops.MaxPool((3,), (2,), ((1, 1),)), (2, 5)),
    "linear": (ops.Linear(normal(4, 5), normal(4)), (2, 5)),
    "affine": (ops.ChannelAffine(normal(2), normal(2)), (2, 5)),
    "flatten": (ops.Flatten(), (2, 5)),
    "delay": (ops.Delay(3), (2, 5)),
    "wait": (ops.Wait(2), (2, 5)),
    "hold": (ops.Hold(), (2, 5)),
    "leak": (ops.Filter(ops.Leak(0.5, 0.8)), (2, 5)),
    "strict leak": (ops.Filter(ops.StrictLeak(0.5, 0.8)), (2, 5)),
    "exponentials": (ops.Filter(ops.Exponentials(normal(2), [0.5, 0.8], 0.3)), (2, 5)),
    "learned": (ops.Filter(ops.PartialSums(np.tril(normal(9, 9)), normal(9))), (2, 5)),
    "relu": (ops.Activation("relu"), (2, 5)),
    "sigmoid": (ops.Activation("sigmoid"), (5,)),
    **{f"time conv {name}": (layer, (features,)) for name, (layer, features) in TIME_CONVOLUTIONS.items()},
    "mean": (ops.Readout("mean"), (5,)),
    "running sum": (ops.Readout("sum"), (5,)),
    "last": (ops.Readout("last"), (5,)),
    "running max": (ops.Readout("max"), (5,)),
    "mean of the last": (ops.MeanOfLast(4), (2, 5)),
    "expand": (ops.Expand((3, 5)), (5,)),
    "take": (ops.Take(0, (1, 1, 0)), (2, 5)),
}


@pytest.mark.rows(40)
@pytest.mark.parametrize(("layer", "features"), LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_run_is_steps_is_chunks(layer, features, dtype, kind):
    machine = one_layer(layer, features)
    x = kind(normal(7, 2, *features).astype(dtype))
    whole = machine.run(x)
    assert whole.dtype == x.dtype
    head, state = step_by_step(machine, x[:3])
    assert np.array_equal(head, whole[:3])
    assert np.array_equal(machine.run(x[3:], state), whole[3:])


@pytest.mark.parametrize("name", ["plain", "stride, dilation", "groups"])
def test_convolution_agrees_with_torch(name):
    """Guards the loops above: where padding is symmetric, torch computes the same."""
    layer, features = CONVOLUTIONS[name]
    x = torch.from_numpy(normal(1, 2, *features))
    padding = layer.padding[0][0] if name != "groups" else 0
    padded = F.pad(x[0], (0, 3)) if name == "groups" else x[0]
    weight, bias = torch.tensor(layer.weight), torch.tensor(layer.bias)
    expected = F.conv1d(padded, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    np.testing.assert_allclose(one_layer(layer, features).run(x)[0], expected, **ROUNDING)
    np.testing.assert_allclose(per_sample(lambda s: correlate(s, layer), x.numpy())[0], expected, **ROUNDING)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(ops.Readout("sum"), id="sum"),
        pytest.param(ops.Delay(1), id="delay"),
        pytest.param(ops.Hold(), id="hold"),
        pytest.param(ops.Filter(ops.Identity()), id="identity"),
        pytest.param(ops.Filter(ops.Leak(0.5, 0.5)), id="leak"),
        pytest.param(ops.Filter(ops.StrictLeak(0.5, 0.5)), id="strict leak"),
        pytest.param(ops.TimeConv(np.ones((2, 2, 2)), None, 1), id="time conv"),
        pytest.param(ops.Activation("relu"), id="relu"),
        pytest.param(ops.LIFNeuron(2.0, True, 0.1, "hard", ">="), id="lif"),
        pytest.param(ops.Readout("last"), id="last"),
        pytest.param(ops.Flatten(), id="flatten"),
        pytest.param(ops.Reshape((1, 2)), id="reshape"),
        pytest.param(ops.Permute((0,)), id="permute"),
        pytest.param(ops.Expand((3, 2)), id="expand"),
        pytest.param(ops.Take(0, (0, 1)), id="take"),
        pytest.param(ops.ConstantPad(((0, 0),)), id="pad of nothing"),
        pytest.param(ops.Readout("max"), id="max"),
        pytest.param(ops.MeanOfLast(1), id="mean of the last"),
        pytest.param(ops.Readout("mean"), id="mean"),
        pytest.param(ops.Linear(np.eye(2)), id="linear"),
    ],
)
def test_the_caller_may_overwrite_an_output(layer):
    """A caller who scales y in place must not find the state or the input scaled too."""
    machine = one_layer(layer, (2,))
    x = torch.ones(1, 2)
    _, state = machine.step(x, machine.initial_state(1))
    y, new_state = machine.step(x, state)
    kept = {name: value.clone() for name, value in (state | {f"new {n}": v for n, v in new_state.items()}).items()}
    y.add_(100.0)
    now = state | {f"new {n}": v for n, v in new_state.items()}
    assert torch.equal(x, torch.ones(1, 2))
    assert all(torch.equal(now[name], value) for name, value in kept.items())


def test_spikes_stay_spikes_where_they_only_move():
    """What is 0 or 1 everywhere is known to be, as far as it is so."""
    machine = NETWORKS["spikes that move"]
    no_spikes = {"first", "output"}
    assert machine.binary == {node.name for node in machine.nodes} - no_spikes
    kept = {"max": True, "min": True, "mean": False, "sum": False}
    assert {kind: ops.Reduce(kind, (0,)).keeps_spikes for kind in kept} == kept
    assert {kind: ops.Readout(kind).keeps_spikes for kind in kept} == kept
    assert [ops.ConstantPad((), value).keeps_spikes for value in (0.0, 1.0, 0.5, -1.0)] == [True, True, False, False]


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_mean_of_the_last_steps(steps):
    x = normal(7, 2, 3)
    expected = [np.mean(x[max(0, t - steps + 1) : t + 1], axis=0) for t in range(7)]
    np.testing.assert_allclose(one_layer(ops.MeanOfLast(steps), (3,)).run(x), np.stack(expected), **ROUNDING)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_a_running_extreme_starts_with_its_first_step(kind):
    """Not with the zero that every state starts with, nor with what another run has left."""
    machine, x = one_layer(ops.Readout(kind), (3,)), normal(5, 2, 3)
    x = x - 10.0 if kind == "max" else x + 10.0
    expected = getattr(np, f"{kind}imum").accumulate(x)
    np.testing.assert_array_equal(machine.run(x), expected)
    left = machine.initial_state(2, "float64") | {"layer.best": np.full((2, 3), 99.0 if kind == "max" else -99.0)}
    np.testing.assert_array_equal(machine.run(x, left), expected)


@pytest.mark.full
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 6.0])
def test_signs_count_in_a_norm_as_they_do_in_torch(p):
    """Where it has a value: a sum of cubes below zero has no root."""
    x = torch.tensor([[[-0.5, 0.75, 1.0, -1.0, -2.0, -1.0]]], dtype=torch.float64)
    expected = F.lp_pool1d(x, p, 2)[0]
    assert bool(expected.isnan().any()) == (p == 3.0)
    found = ops.LPPool((2,), (2,), ((0, 0),), p).step([x], Context(torch.tensor, {}, 0))[0]
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-14, atol=0.0)


def test_the_first_of_equal_ones_is_the_largest():
    x = np.array([[[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    assert one_layer(ops.ArgMax(0), (4,)).run(x).tolist() == [[1.0, 0.0]]
    assert one_layer(ops.ArgTopK(0, 4), (4,)).run(x).tolist() == [[[1.0, 2.0, 0.0, 3.0], [0.0, 1.0, 2.0, 3.0]]]
    assert one_layer(ops.ArgTopK(0, 3, largest=False), (4,)).run(x).tolist() == [[[3.0, 0.0, 1.0], [0.0, 1.0, 2.0]]]


def test_a_division_by_zero_is_said():
    machine = StateMachine((Node("a", ops.Divide(), ("x", "x")),), (2,))
    with pytest.raises(StateError, match="the output overflowed in step 1"):
        machine.run(np.array([[[1.0, 0.0]]]))
