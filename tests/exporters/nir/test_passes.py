"""Every pass keeps what a network computes, run by a few lines of float64 numpy, primitive by primitive."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir import passes
from psu_deploy.exporters.nir.dialects.base import expanded
from psu_deploy.exporters.nir.lower import lower
from psu_deploy.exporters.nir.primitives import (
    Convolution,
    Dense,
    Fire,
    Flatten,
    Leak,
    Mix,
    Network,
    Pool,
    Step,
    Taps,
    Vertex,
    mix,
    scale,
)
from tests.exporters.nir import oracle
from tests.exporters.nir.machines import MACHINES, inputs, normal
from tests.helpers import decide

ROUNDING = {"rtol": 1e-9, "atol": 1e-9}
"""Of float64, in another order of sums."""


def run(network, x):
    """Value of every vertex at every step, name -> (T, B, *features)."""
    states = {vertex.name: {} for vertex in network}
    before, rows = {}, []
    for now in x.astype(np.float64):
        values = {"input": now}
        for vertex in network:
            terms = [values[name] for name in vertex.inputs]
            terms += [before[name] for name in vertex.feedback if name in before]
            values[vertex.name] = compute(vertex.primitive, sum(terms), states[vertex.name])
        before = values
        rows.append(values)
    return {name: np.stack([values[name] for values in rows]) for name in rows[0]}


def copies(x, count):
    return x.reshape(len(x), count, x.shape[1] // count, *x.shape[2:])


def joined(x):
    return x.reshape(len(x), -1, *x.shape[3:])


def per_copy(numbers, x):
    return np.reshape(numbers, (-1, *[1] * (x.ndim - 2)))


def compute(primitive, x, state):
    match primitive:
        case Dense(weight, bias):
            return x @ weight.T + bias
        case Convolution(weight, bias, stride, padding, dilation):
            return oracle.convolve(x, weight, stride, padding, dilation) + bias.reshape(-1, *[1] * (x.ndim - 2))
        case Pool(average, kernel, stride, padding):
            ones = np.eye(x.shape[1])[:, :, None, None] * np.ones(kernel)
            total = oracle.convolve(x, ones, stride, padding, (1, 1))
            return total / np.prod(kernel) if average else total
        case Flatten():
            return x.reshape(len(x), -1)
        case Mix(matrix, bias):
            y = np.einsum("ij,bj...->bi...", matrix, copies(x, matrix.shape[1]))
            return joined(y + per_copy(bias, y))
        case Leak(gains, decays, inputs):
            x = copies(x, inputs)
            state["y"] = per_copy(decays, x) * state.get("y", 0.0) + per_copy(gains, x) * x
            return joined(state["y"])
        case Taps(order):
            state.setdefault("line", [np.zeros_like(x)] * order).insert(0, x)
            return joined(np.stack(state["line"][:order], axis=1))
        case Step(thresholds, fire_on):
            x = copies(x, len(thresholds))
            return joined(decide(x - per_copy(thresholds, x), fire_on))
        case Fire(tau, decay_input, threshold, fire_on):
            V = state.get("V", 0.0)
            H = V - (0.0 if tau is None else V / tau) + (x / tau if decay_input else x)
            spikes = decide(H - threshold, fire_on)
            state["V"] = H * (1 - spikes)
            return spikes
    raise AssertionError(primitive)


PASSES = {
    "unit_gains": passes.unit_gains,
    "divided_inputs": passes.divided_inputs,
    "one_threshold": passes.one_threshold,
    "sums_for_means": passes.sums_for_means,
    "keep_images": passes.keep_images,
    "fold": passes.fold,
    "moved down": partial(passes.moved_thresholds, ties=">"),
    "moved up": partial(passes.moved_thresholds, ties=">="),
    "moved both ways": partial(passes.moved_thresholds, ties=None),
}
SOME = [
    *(
        "psu, 7 level(s)",
        "ipsu with bias",
        "rpsu with bias",
        "ppsu",
        "ipsu as coded",
        "two windows",
        "window with reset",
    ),
    *(
        "lif soft, divided, 3.0, >",
        "lif hard, undivided, 2.0, >",
        "lif hard, undivided, 3.0, >=",
        "if hard",
        "psu, negative threshold",
    ),
    *(
        "filter: strict leak",
        "filter: biased exponentials",
        "time conv in groups",
        "delay of 3",
        "residual",
        "parallel branches",
    ),
    *("sum of three", "captured, image", "captured, dense", "mean of spikes", "mean, padded", "max of spikes, padded"),
    *(
        "flatten, then linear",
        "linear over an image",
        "flatten between neurons",
        "affine of flat spikes",
        "conv1d, then flat",
    ),
    *("affine in front of linear", "linear in front of affine", "strict filter on images", "flatten at the end"),
]


def same(machine, before, after):
    x = inputs(machine)
    old, new = run(before, x), run(after, x)
    T, B = x.shape[:2]
    for layer, name in after.spiking.items():
        expected = old[before.spiking[layer]]
        np.testing.assert_array_equal(new[name].reshape(expected.shape), expected)
        assert expected.any()
    expected = old[before.output]
    np.testing.assert_allclose(new[after.output].reshape(expected.shape), expected, **ROUNDING)
    shapes = after.shapes()
    assert all(new[name].shape == (T, B, *shapes[name]) for name in shapes)


@pytest.mark.parametrize("name", SOME)
def test_lowering_keeps_the_function(name):
    """What the passes start from."""
    machine, network = MACHINES[name], lower(MACHINES[name])
    x = inputs(machine)
    values, trace = run(network, x), machine.trace(x.astype(np.float64))
    for layer, spikes in trace.spikes.items():
        np.testing.assert_array_equal(values[network.spiking[layer]].reshape(spikes.shape), spikes)


@pytest.mark.rows(60)
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("one_pass", PASSES)
def test_a_pass_keeps_the_function(one_pass, name):
    network = lower(MACHINES[name])
    same(MACHINES[name], network, PASSES[one_pass](network))


@pytest.mark.parametrize("name", SOME)
def test_all_of_them_in_a_row(name):
    network = before = lower(MACHINES[name])
    for one_pass in (
        "keep_images",
        "sums_for_means",
        "moved both ways",
        "unit_gains",
        "divided_inputs",
        "one_threshold",
        "fold",
    ):
        network = PASSES[one_pass](network)
    same(MACHINES[name], before, network)
    assert not any(isinstance(v.primitive, Flatten) for v in network)
    assert not any(isinstance(v.primitive, Pool) and v.primitive.average for v in network)
    for vertex in network:
        match vertex.primitive:
            case Leak(gains):
                assert set(gains) == {1.0}
            case Fire(tau, decay_input):
                assert decay_input or tau is None
            case Step(thresholds):
                assert len(set(thresholds)) == 1
                assert thresholds[0] >= 0


@pytest.mark.parametrize("name", SOME)
def test_folding_leaves_nothing_to_fold(name):
    folded = passes.fold(passes.unit_gains(lower(MACHINES[name])))
    again = passes.fold(folded)
    assert again is folded
    kept = {folded.output, *folded.spiking.values()}
    vertices = {vertex.name: vertex for vertex in folded}
    for vertex in folded:
        if isinstance(vertex.primitive, Mix) and len(vertex.inputs) == 1 and vertex.inputs[0] in vertices:
            before = vertices[vertex.inputs[0]]
            alone = len(folded.readers(before.name)) == 1 and before.name not in kept
            assert not (isinstance(before.primitive, Mix) and alone and not vertex.feedback and not before.feedback)


W, B = normal(2, 3), normal(2)


def network(*vertices, features=(3,), output=""):
    return Network(vertices, features, output or vertices[-1].name)


def test_a_factor_behind_a_layer():
    net = network(Vertex("a", Dense(W, B), ("input",)), Vertex("b", scale(3.0), ("a",)))
    (vertex,) = passes.fold(net)
    assert (vertex.name, vertex.inputs) == ("b", ("input",))
    np.testing.assert_allclose(vertex.primitive.weight, 3 * W)
    np.testing.assert_allclose(vertex.primitive.bias, 3 * B)


@pytest.mark.parametrize("first", [Dense(W, B), mix([[2.0]], [1.0])])
def test_two_constants_are_not_added(first):
    """A threshold moved by one float would be lost in the sum."""
    net = network(Vertex("a", first, ("input",)), Vertex("b", mix([[1.0]], [1e-9]), ("a",)))
    assert passes.fold(net) is net


def test_a_factor_in_front_of_a_layer():
    net = network(Vertex("a", scale(3.0), ("input",)), Vertex("b", Dense(W, B), ("a",)))
    (vertex,) = passes.fold(net)
    np.testing.assert_allclose(vertex.primitive.weight, 3 * W)
    np.testing.assert_allclose(vertex.primitive.bias, B)


def test_what_is_read_twice_or_watched_is_kept():
    a, b = Vertex("a", Dense(W, B), ("input",)), Vertex("b", scale(3.0), ("a",))
    assert len(passes.fold(network(a, b, Vertex("c", scale(1.0), ("a", "b"))).replaced({})).vertices) == 3
    assert len(passes.fold(network(a, b, output="a")).vertices) == 2
    assert len(passes.fold(Network((a, b), (3,), "b", {"layer": "a"})).vertices) == 2


def test_a_factor_with_an_offset_is_not_put_in_front():
    """Behind a padded convolution an offset would not be the same everywhere."""
    conv = Convolution(normal(2, 3, 1, 1), B, (1, 1), (1, 1), (1, 1))
    net = network(Vertex("a", mix([[3.0]], [0.5]), ("input",)), Vertex("b", conv, ("a",)), features=(3, 2, 2))
    assert len(passes.fold(net).vertices) == 2


@pytest.mark.parametrize(
    ("threshold", "fire_on", "ties", "expected"),
    [
        *((0.5, fire_on, fire_on, 0.5) for fire_on in (">", ">=")),
        (0.5, ">=", ">", float(np.nextafter(np.float32(0.5), np.float32(0)))),
        (0.5, ">", ">=", float(np.nextafter(np.float32(0.5), np.float32(1)))),
        (-0.5, ">=", ">", float(np.nextafter(np.float32(-0.5), np.float32(-1)))),
        (-0.5, ">", ">=", float(np.nextafter(np.float32(-0.5), np.float32(0)))),
        (0.0, ">=", ">", -(2.0**-100)),
        (0.0, ">", ">=", 2.0**-100),
        (0.1, ">", ">", float(np.float32(0.1))),
    ],
)
def test_a_threshold_is_moved_by_one_float(threshold, fire_on, ties, expected):
    assert passes.moved(threshold, fire_on, ties) == expected


def test_images_keep_their_axes():
    network = passes.keep_images(lower(MACHINES["flatten, then linear"]))
    shapes = network.shapes()
    assert [len(shapes[name]) for name in network.spiking.values()] == [3, 3]
    assert shapes[network.output] == (2, 1, 1)
    dense = [v for v in network if isinstance(v.primitive, Convolution) and v.name == "d"]
    assert [v.primitive.weight.shape[2:] for v in dense] == [(4, 4)]


def test_a_sum_of_flat_and_image_is_refused():
    vertices = (
        Vertex("a", Flatten(), ("input",)),
        Vertex("b", Dense(normal(4, 4), normal(4)), ("a",)),
        Vertex("c", scale(1.0), ("a", "b")),
    )
    with pytest.raises(Refusal, match="a sum of a flattened image and a dense layer"):
        passes.keep_images(Network(vertices, (1, 2, 2), "c"))


def test_copies_of_every_feature():
    matrix = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    x = normal(4)
    wide = expanded(matrix, 2) @ x
    np.testing.assert_allclose(wide.reshape(3, 2), matrix @ x.reshape(2, 2))
