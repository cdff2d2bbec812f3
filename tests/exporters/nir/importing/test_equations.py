"""NIR graphs as machines, against forward Euler in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from tests.exporters.nir.importing.nir_graphs import chain, graph, nir, simulate

DT = 1e-3
T, B = 30, 3


def full(features, value):
    return np.full(features, value)


def rows(features, low, high):
    """A number per channel, the same everywhere in it."""
    numbers = np.linspace(low, high, features[0]).reshape(-1, *[1] * (len(features) - 1))
    return np.broadcast_to(numbers, features).copy()


def lif(f, tau=5e-3, r=1.0, leak=0.0, threshold=0.3, reset=0.0):
    return nir.LIF(full(f, tau), as_array(f, r), as_array(f, leak), full(f, threshold), full(f, reset))


def as_array(f, value):
    return value if isinstance(value, np.ndarray) else full(f, value)


def cuba(f, syn=3e-3, mem=5e-3, r=1.0, w_in=1.0, threshold=0.3, leak=0.0, reset=0.0):
    return nir.CubaLIF(
        full(f, syn), full(f, mem), as_array(f, r), full(f, leak), full(f, threshold), full(f, reset), as_array(f, w_in)
    )


F1, F3 = (6,), (4, 3, 5)

NEURONS = {
    "lif": lambda f: lif(f),
    "lif_r": lambda f: lif(f, r=2.5),
    "lif_r_per_channel": lambda f: lif(f, r=rows(f, 1.0, 3.0)),
    "lif_leak": lambda f: lif(f, leak=0.2),
    "lif_leak_per_channel": lambda f: lif(f, leak=rows(f, -0.2, 0.3)),
    "lif_reset": lambda f: lif(f, reset=-0.3, leak=0.1),
    "lif_memoryless": lambda f: lif(f, tau=DT, reset=0.1),
    "if": lambda f: nir.IF(full(f, 200.0), full(f, 0.6)),
    "if_reset": lambda f: nir.IF(rows(f, 200.0, 700.0), full(f, 0.6), full(f, 0.2)),
    "cuba": lambda f: cuba(f, w_in=2.0),
    "cuba_r": lambda f: cuba(f, r=2.0, w_in=rows(f, 0.5, 2.0), leak=0.1, reset=0.05),
    "cuba_syn_memoryless": lambda f: cuba(f, syn=DT, w_in=2.0),
    "cuba_memoryless": lambda f: cuba(f, syn=DT, mem=DT, threshold=0.0),
    "threshold": lambda f: nir.Threshold(full(f, 0.4)),
    "thresholds": lambda f: nir.Threshold(rows(f, -0.5, 0.9)),
    "threshold_0d": lambda f: nir.Threshold(np.array(0.4)),
    "lif_0d": lambda f: nir.LIF(*map(np.array, (5e-3, 1.5, 0.0, 0.3, 0.0))),
}

LAYERS = {
    "scale": lambda f: nir.Scale(rows(f, 0.5, -2.0)),
    "scale_0d": lambda f: nir.Scale(np.array(0.7)),
    "li": lambda f: nir.LI(full(f, 4e-3), full(f, 1.5), full(f, 0.0)),
    "li_r": lambda f: nir.LI(full(f, 4e-3), rows(f, 0.5, 2.0), full(f, 0.0)),
    "li_tau_per_channel": lambda f: nir.LI(rows(f, 2e-3, 4e-3), rows(f, 0.5, 2.0), full(f, 0.0)),
    "li_some_memoryless": lambda f: nir.LI(rows(f, DT, 4e-3), rows(f, 0.5, 2.0), full(f, 0.0)),
    "li_leak": lambda f: nir.LI(full(f, 4e-3), rows(f, 0.5, 2.0), rows(f, 0.3, -1.0)),
    "li_memoryless": lambda f: nir.LI(full(f, DT), full(f, 1.5), full(f, 0.4)),
    "li_nothing": lambda f: nir.LI(full(f, DT), full(f, 1.0), full(f, 0.0)),
    "i": lambda f: nir.I(full(f, 300.0)),
    "i_r": lambda f: nir.I(rows(f, 100.0, 300.0)),
    "cubali": lambda f: nir.CubaLI(full(f, 2e-3), full(f, 4e-3), full(f, 1.5), full(f, 0.2), full(f, 0.8)),
    "delay": lambda f: nir.Delay(full(f, 3 * DT)),
    "delay_per_channel": lambda f: nir.Delay(np.rint(rows(f, 0, 3)) * DT),
    "delay_0": lambda f: nir.Delay(full(f, 0.0)),
}


def inputs(features, seed=1):
    return np.random.default_rng(seed).normal(0.4, 1.0, (T, B, *features))


def check(net, features, delayed=(), dt=DT):
    """The machine's output is the oracle's: spikes exactly, currents to rounding."""
    x = inputs(features)
    expected, values = simulate(net, x, dt, delayed)
    machine = psu.importers.nir.load(net, dt=dt)
    trace = machine.trace(x)
    np.testing.assert_allclose(trace.output, expected, rtol=1e-11, atol=1e-11)
    for name in machine.spiking:
        assert (trace.spikes[name] == values[name]).all()
        assert 0.03 < values[name].mean() < 0.97
    return machine


@pytest.mark.full
@pytest.mark.parametrize("features", [F1, F3], ids=["vector", "image"])
@pytest.mark.parametrize("kind", NEURONS)
def test_neurons(kind, features):
    machine = check(chain(features, NEURONS[kind](features)), features)
    assert machine.spiking == ("n0",)
    assert machine.output == "n0"


@pytest.mark.parametrize("features", [F1, F3], ids=["vector", "image"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_with_memory(kind, features):
    check(chain(features, LAYERS[kind](features)), features)


def conv2d(weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    return nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)


def random(*shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


STATELESS = {
    "affine": (F1, lambda: nir.Affine(random(4, 6), random(4))),
    "linear": (F1, lambda: nir.Linear(random(4, 6))),
    "conv1d": ((2, 9), lambda: nir.Conv1d(None, random(4, 2, 3), 2, 1, 1, 1, random(4))),
    "conv1d_same": ((2, 9), lambda: nir.Conv1d(None, random(4, 2, 4), 1, "same", 1, 1, random(4))),
    "conv1d_groups": ((4, 9), lambda: nir.Conv1d(None, random(4, 2, 3), 1, 0, 2, 2, random(4))),
    "conv2d": (F3, lambda: conv2d(random(2, 4, 2, 3), random(2), (1, 2), (1, 2))),
    "conv2d_ints": (F3, lambda: conv2d(random(2, 4, 2, 2), None, 2, 1, 1)),
    "conv2d_same": (F3, lambda: conv2d(random(2, 4, 2, 3), random(2), padding="same")),
    "conv2d_valid": (F3, lambda: conv2d(random(2, 4, 2, 3), random(2), padding="valid")),
    "conv2d_dilated": ((4, 7, 9), lambda: conv2d(random(2, 4, 2, 3), random(2), dilation=(2, 3))),
    "conv2d_groups": (F3, lambda: conv2d(random(8, 2, 2, 2), random(8), groups=2)),
    "depthwise": (F3, lambda: conv2d(random(4, 1, 3, 3), random(4), padding=(1, 1), groups=4)),
    "sum_pool": ((2, 6, 7), lambda: nir.SumPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 0]))),
    "avg_pool": ((2, 6, 7), lambda: nir.AvgPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 1]))),
    "flatten": (F3, lambda: nir.Flatten({"input": np.array(F3)}, 0, -1)),
}


@pytest.mark.parametrize("kind", STATELESS)
def test_stateless_layers(kind):
    features, make = STATELESS[kind]
    machine = check(chain(features, make()), features)
    assert [node.name for node in machine.nodes] == ["n0"]


def test_a_flatten_of_one_axis_does_nothing():
    x = inputs(F3)
    machine = psu.importers.nir.load(
        chain(F3, nir.Scale(np.array(2.0)), nir.Flatten({"input": None}, 1, 1), out=F3), DT
    )
    assert [node.name for node in machine.nodes] == ["n0"]
    np.testing.assert_array_equal(machine.run(x), 2 * x)


def test_a_network_of_nothing():
    machine = check(chain(F1), F1)
    assert machine.output == "output"


def test_edges_into_one_node_are_summed():
    net = graph(
        {
            "z_in": nir.Input(np.array(F1)),
            "b": nir.Affine(random(6, 6), random(6)),
            "a": nir.Scale(full(F1, 0.5)),
            "lif": lif(F1),
            "li": nir.LI(full(F1, 4e-3), full(F1, 1.0), full(F1, 0.0)),
            "end": nir.Output(np.array(F1)),
        },
        [("z_in", "b"), ("z_in", "a"), ("b", "lif"), ("a", "lif"), ("z_in", "lif"), ("lif", "end"), ("lif", "li")]
        + [("li", "end")],
    )
    machine = check(net, F1)
    assert machine.spiking == ("lif",)
    assert isinstance({n.name: n.layer for n in machine.nodes}["lif.sum"], ops.Add)
    assert machine.output == "end"


def test_names_that_the_machine_needs_itself():
    nodes = {
        "x": nir.Scale(full(F1, 2.0)),
        "step": nir.Scale(full(F1, 3.0)),
        "c.0": nir.Scale(full(F1, 1.5)),
        "c": cuba(F1, w_in=2.0),
        "input": nir.Input(np.array(F1)),
        "output": nir.Output(np.array(F1)),
    }
    machine = check(graph(nodes, [("input", "x"), ("x", "step"), ("step", "c.0"), ("c.0", "c"), ("c", "output")]), F1)
    assert [node.name for node in machine.nodes] == ["x_", "step_", "c.0", "c.0_", "c"]


class TestSubgraphs:
    def inner(self):
        return graph(
            {"in": nir.Input(np.array(F1)), "s": nir.Scale(full(F1, 1.5)), "out": nir.Output(np.array(F1))},
            [("in", "s"), ("s", "out"), ("in", "out")],
        )

    def test_are_opened(self):
        outer = {"in": nir.Input(np.array(F1)), "a": self.inner(), "b": lif(F1), "out": nir.Output(np.array(F1))}
        edges = [("in", "a"), ("in", "b"), ("a", "b"), ("b", "out")]
        flat = {**outer, "a": nir.Scale(full(F1, 2.5))}
        x = inputs(F1)
        machine = psu.importers.nir.load(graph(outer, edges), dt=DT)
        assert {"a.s", "b"} <= {node.name for node in machine.nodes}
        np.testing.assert_array_equal(machine.run(x), simulate(graph(flat, edges), x, DT)[0])


def conv1d(matrix):
    return nir.Conv1d(None, matrix[:, :, None], 1, 0, 1, 1, np.zeros(len(matrix)))


def identity(n, factor=1.0):
    return nir.Affine(factor * np.eye(n), np.zeros(n))


class TestCycles:
    """`a = x + b of the step before, b = d*a` is a leak."""

    def net(self, features, a, b, **more):
        nodes = {"in": nir.Input(np.array(features)), "a": a, "b": b, "out": nir.Output(np.array(features))}
        return graph(nodes | more, [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")])

    @pytest.mark.parametrize(
        ("features", "a", "b"),
        [
            (F1, lambda: identity(6), lambda: identity(6, 0.8)),
            (F1, lambda: identity(6, 0.5), lambda: nir.Linear(0.8 * np.eye(6))),
            (F1, lambda: nir.Scale(full(F1, 0.5)), lambda: nir.Scale(full(F1, 0.9))),
            (F3, lambda: conv2d(np.eye(4)[:, :, None, None]), lambda: conv2d(0.7 * np.eye(4)[:, :, None, None])),
        ],
        ids=["affine", "gain", "scale", "conv"],
    )
    def test_a_leak(self, features, a, b):
        machine = check(self.net(features, a(), b()), features, delayed={("b", "a")})
        assert [(node.name, type(node.layer).__name__) for node in machine.nodes] == [("a", "Filter")]

    @pytest.mark.parametrize(
        ("features", "a", "b"),
        [
            (F1, lambda: identity(6, 0.5), lambda: nir.Linear(np.diag([0.8, 0.8, 0.5, 0.0, 1.0, 0.5]))),
            (F1, lambda: identity(6), lambda: nir.Linear(np.eye(6, k=-2))),
            (F1, lambda: identity(6, 0.5), lambda: nir.Linear(np.tril(random(6, 6).astype(float), -1))),
            (F3, lambda: conv2d(np.eye(4)[:, :, None, None]), lambda: conv2d(np.eye(4, k=-1)[:, :, None, None])),
            ((4, 9), lambda: nir.Scale(full((4, 9), 1.0)), lambda: conv1d(np.eye(4, k=-1))),
        ],
        ids=["leaks", "register", "triangular", "conv", "conv1d"],
    )
    def test_memory_of_several_kinds(self, features, a, b):
        check(self.net(features, a(), b()), features, delayed={("b", "a")})

    def test_of_a_sum(self):
        nodes = {
            "in": nir.Input(np.array(F1)),
            "w": nir.Linear(random(6, 6)),
            "a": identity(6),
            "b": identity(6, 0.8),
            "fire": nir.Threshold(full(F1, 0.5)),
            "out": nir.Output(np.array(F1)),
        }
        edges = [("in", "w"), ("b", "a"), ("in", "a"), ("w", "a"), ("a", "b"), ("a", "fire"), ("fire", "out")]
        check(graph(nodes, edges), F1, delayed={("b", "a")})


class TestResetBySubtraction:
    """`H = d*H + g*(x + f)`, `S = H > threshold`, `f = -d*threshold/g * S` of the step before."""

    TAU, THRESHOLD = 4.0, 0.6

    def net(self, features, potential, gain=1.0, decay=0.75, back=1.0, **more):
        nodes = {
            "in": nir.Input(np.array(features)),
            "h": potential,
            "s": nir.Threshold(full(features, self.THRESHOLD)),
            "f": nir.Scale(full(features, -back * decay * self.THRESHOLD / gain)),
            "out": nir.Output(np.array(features)),
        }
        edges = [("in", "h"), ("h", "s"), ("s", "f"), ("f", "h"), ("s", "out")]
        return graph(nodes | more, edges)

    @pytest.mark.parametrize("features", [F1, F3], ids=["vector", "image"])
    @pytest.mark.parametrize("r", [4.0, 1.0], ids=["no gain", "gain"])
    def test_an_lif(self, features, r):
        li = nir.LI(full(features, self.TAU * DT), full(features, r), full(features, 0.0))
        machine = check(self.net(features, li, gain=r / self.TAU), features, delayed={("f", "h")})
        layer = machine.nodes[-1].layer
        assert (machine.spiking, type(layer), layer.reset, layer.tau) == (("s",), ops.LIFNeuron, "soft", 4.0)

    def test_without_leak(self):
        machine = check(self.net(F1, nir.I(full(F1, 0.5 / DT)), 0.5, decay=1.0), F1, delayed={("f", "h")})
        assert machine.nodes[-1].layer.tau is None

    def test_of_a_leak_that_is_a_cycle(self):
        net = self.net(F1, identity(6), b=identity(6, 0.75))
        net.edges += [("h", "b"), ("b", "h")]
        check(net, F1, delayed={("f", "h"), ("b", "h")})

    def test_that_subtracts_something_else(self):
        li = nir.LI(full(F1, self.TAU * DT), full(F1, 4.0), full(F1, 0.0))
        with pytest.raises(psu.UnsupportedModelError, match="no feedback through spikes"):
            psu.importers.nir.load(self.net(F1, li, back=0.9), dt=DT)


def test_a_float32_time_constant_of_one_step_is_memoryless():
    """float32(1e-4) is less than 1e-4, and the step is not longer than the time constant for that."""
    node = lif(F1, tau=1e-4)
    node.tau = node.tau.astype(np.float32)
    assert (node.tau.astype(np.float64) < 1e-4).all()
    check(chain(F1, node), F1, dt=1e-4)


@pytest.mark.parametrize(
    ("node", "first"),
    [
        (lambda: nir.Threshold(full(F1, 1.0)), None),
        (lambda: nir.Threshold(rows(F1, 1.0, 1.0)), None),
        (lambda: lif(F1, tau=2**-10, threshold=1.0), None),
        (lambda: lif(F1, tau=2**-9, threshold=0.5), 1),
        (lambda: nir.IF(full(F1, 256.0), full(F1, 0.5)), 2),
    ],
)
def test_a_potential_at_the_threshold_does_not_fire(node, first):
    """The input is 1, the step 2**-10 s: nothing rounds."""
    spikes = psu.importers.nir.load(chain(F1, node()), dt=2**-10).run(np.ones((4, 1, *F1)))
    fired = np.flatnonzero(spikes.reshape(4, -1).all(1))
    assert (fired[0] if len(fired) else None) == first


def test_what_forgets_in_one_step_has_no_state():
    net = chain(F1, lif(F1, tau=DT), cuba(F1, syn=DT, mem=DT), LAYERS["li_memoryless"](F1))
    assert psu.importers.nir.load(net, dt=DT).state_spec == {}


def test_it_does_not_change_the_graph_and_needs_no_file_for_it():
    net = chain(F1, lif(F1), dt=DT)
    before = repr(net.to_dict())
    psu.importers.nir.load(net)
    assert repr(net.to_dict()) == before
