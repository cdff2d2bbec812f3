"""What of NIR becomes no machine, and what is said about it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.errors import ArtifactError, InputError, UnsupportedModelError
from tests.exporters.nir.importing.nir_graphs import chain, graph, nir

pytestmark = pytest.mark.timeout(60)

F = (4,)
IMAGE = (2, 3, 3)
DT = 1e-3


def full(value, features=F):
    return np.full(features, value)


def ramp(low, high, features=F):
    return np.linspace(low, high, int(np.prod(features))).reshape(features)


def lif(tau=0.01, r=1.0, threshold=1.0, reset=0.0, features=F):
    numbers = (tau, r, 0.0, threshold, reset)
    return nir.LIF(*(np.broadcast_to(np.asarray(value, float), features).copy() for value in numbers))


def refusal(net, error, *said, dt=DT):
    with pytest.raises(error) as caught:
        psu.importers.nir.load(net, dt=dt)
    message = str(caught.value)
    assert all(text in message for text in said), message
    return message


class TestNodes:
    @pytest.mark.parametrize(
        ("features", "node", "said"),
        [
            (F, lambda: lif(tau=ramp(0.01, 0.02)), "tau differs between its neurons, 0.01 .. 0.02"),
            (F, lambda: lif(threshold=ramp(1.0, 2.0)), "v_threshold - v_reset differs between its neurons, 1 .. 2"),
            (F, lambda: lif(reset=ramp(0.0, 0.5)), "v_threshold - v_reset differs between its neurons, 0.5 .. 1"),
            (F, lambda: lif(tau=5e-4), "tau = 0.0005 s is shorter than one step of dt = 0.001 s"),
            (
                IMAGE,
                lambda: nir.LI(ramp(0.1, 0.2, IMAGE), full(1.0, IMAGE), full(0.0, IMAGE)),
                "tau differs within a channel, 0.1 .. 0.2",
            ),
            (F, lambda: nir.LI(ramp(0.1, 0.2), full(1.0), full(0.5)), "tau differs between its neurons, 0.1 .. 0.2"),
            (F, lambda: nir.LI(full(9e-4), full(1.0), full(0.0)), "forward Euler overshoots  pass dt <= 0.0009"),
            (
                F,
                lambda: nir.CubaLIF(ramp(0.1, 0.2), full(0.1), full(1.0), full(0.0), full(1.0)),
                "tau_syn differs between its neurons",
            ),
            (
                F,
                lambda: nir.CubaLI(full(0.1), full(1e-5), full(1.0), full(0.0)),
                "tau_mem = 1e-05 s is shorter than one step",
            ),
            (IMAGE, lambda: nir.Scale(ramp(0.5, 2.0, IMAGE)), "scale differs within a channel, 0.5 .. 2"),
            (IMAGE, lambda: nir.Threshold(ramp(0.5, 2.0, IMAGE)), "offset differs within a channel, -2 .. -0.5"),
            (IMAGE, lambda: lif(r=ramp(0.5, 2.0, IMAGE), features=IMAGE), "r differs within a channel, 0.5 .. 2"),
            (IMAGE, lambda: nir.I(ramp(100.0, 200.0, IMAGE)), "gain differs within a channel, 0.1 .. 0.2"),
            (F, lambda: nir.Delay(full(2.5e-3)), "a delay of 0.0025 s is 2.5 steps, no whole number"),
            (F, lambda: nir.Delay(ramp(1e-3, 2e-3)), "a delay of 0.00133333 s is 1.33333 steps, no whole number"),
            (F, lambda: nir.Delay(full(-1e-3)), "a delay of -0.001 s is -1 steps"),
            (F, lambda: nir.Delay(full(1e9)), "a delay of 1e+09 s is 1e+12 steps"),
            (F, lambda: nir.Delay(full(1e300)), "a delay of 1e+300 s"),
        ],
    )
    def test_that_a_machine_has_not(self, features, node, said):
        refusal(chain(features, node(), out=features), UnsupportedModelError, "n0", type(node()).__name__, said)

    def test_a_flatten_of_some_axes(self):
        net = chain(IMAGE, nir.Flatten({"input": np.array(IMAGE)}, 1, -1), out=(2, 9))
        refusal(net, UnsupportedModelError, "n0", "it joins axes 1 to 2 of (2, 3, 3) only", "flatten all features")

    def test_matrices_for_each_of_many_places(self):
        net = chain((3, 4), nir.Linear(np.ones((3, 2, 4))), out=(3, 2))
        refusal(net, UnsupportedModelError, "n0", "a matrix for each of many places", "use (out, in)")

    def test_all_of_it_at_once(self):
        net = chain(F, nir.Delay(full(2.5e-3)), lif(tau=ramp(0.01, 0.02)), nir.Linear(np.eye(4)), lif(tau=1e-5), out=F)
        message = refusal(net, UnsupportedModelError, "cannot turn the NIR graph into a state machine: 3 problem(s)")
        assert [line.split()[0] for line in message.splitlines()[2:]] == ["n0", "n1", "n3"]


class TestCycles:
    def net(self, edges, **nodes):
        ends = {"in": nir.Input(np.array(F)), "out": nir.Output(np.array(F))}
        return graph(ends | nodes, edges)

    def test_recurrent_weights(self):
        edges = [("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")]
        net = self.net(edges, lif=lif(), w=nir.Linear(np.eye(4)))
        refusal(
            net,
            UnsupportedModelError,
            "lif -> w -> lif",
            "lif feeds its spikes back to itself; the machine has no feedback through spikes",
        )

    def test_recurrent_weights_in_a_subgraph_as_snntorch_writes_them(self):
        edges = [("in", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "out")]
        inner = self.net(edges, lif=lif(), w_rec=nir.Linear(np.eye(4)))
        net = self.net([("in", "sub"), ("sub", "out")], sub=inner)
        refusal(net, UnsupportedModelError, "sub.lif -> sub.w_rec -> sub.lif", "no feedback through spikes")

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (np.eye(4), 0.5 * np.ones((4, 4))),
            (np.diag([1.0, 1.0, 2.0, 1.0]), 0.5 * np.eye(4)),
        ],
    )
    def test_that_are_no_leak(self, a, b):
        net = self.net([("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")], a=nir.Linear(a), b=nir.Linear(b))
        refusal(net, UnsupportedModelError, "a -> b -> a", "a cycle that is no leak", "use LI")

    def test_with_a_bias(self):
        edges = [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")]
        net = self.net(edges, a=nir.Affine(np.eye(4), full(0.1)), b=nir.Scale(full(0.5)))
        refusal(net, UnsupportedModelError, "a -> b -> a")

    def test_that_others_read_from_both_sides(self):
        """Whether b is heard in the same step or the next is not written anywhere."""
        edges = [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out"), ("b", "out")]
        refusal(self.net(edges, a=nir.Scale(full(1.0)), b=nir.Scale(full(0.5))), UnsupportedModelError, "a -> b -> a")

    def test_of_one_or_three(self):
        edges = [("in", "a"), ("a", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "out")]
        nodes = {name: nir.Scale(full(0.5)) for name in "abcd"}
        message = refusal(self.net(edges, **nodes), UnsupportedModelError, "2 problem(s)", "a -> a", "b -> c -> d -> b")
        assert "a -> b" not in message

    def test_with_two_ways_back(self):
        edges = [("in", "a"), ("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("a", "out")]
        nodes = {name: nir.Scale(full(0.5)) for name in "abc"}
        refusal(self.net(edges, **nodes), UnsupportedModelError, "a -> c -> a")

    def test_a_convolution_that_shifts(self):
        """A kernel of one pixel and a padding is no leak, nor is one with a stride."""
        ends = {"in": nir.Input(np.array((2, 1, 1))), "out": nir.Output(np.array((2, 1, 1)))}
        eye = np.eye(2)[:, :, None, None]
        nodes = {"a": nir.Scale(full(1.0, (2, 1, 1))), "b": nir.Conv2d(None, eye, 3, 1, 1, 1, None)}
        net = graph(ends | nodes, [("in", "a"), ("a", "b"), ("b", "a"), ("a", "out")])
        refusal(net, UnsupportedModelError, "a -> b -> a")


class TestTimeStep:
    def net(self, **metadata):
        return chain(F, lif(), out=F, **metadata)

    def test_nobody_says_it(self):
        refusal(self.net(), InputError, "the NIR graph does not say its time step; pass dt=...", dt=None)

    def test_the_file_is_named(self, tmp_path):
        nir.write(tmp_path / "net.nir", self.net())
        refusal(tmp_path / "net.nir", InputError, "net.nir does not say its time step", dt=None)
        refusal(str(tmp_path / "net.nir"), InputError, "net.nir does not say its time step", dt=None)

    @pytest.mark.parametrize("dt", [0, -1e-3, float("nan"), float("inf"), "1e-3", True])
    def test_no_number(self, dt):
        refusal(self.net(), InputError, "dt must be seconds per step, a number above zero", dt=dt)

    @pytest.mark.parametrize("metadata", [{"dt": 1e-4}, {"psu_deploy": json.dumps({"format": 1, "dt": 1e-4})}])
    def test_the_file_says_it(self, metadata):
        net = self.net(**metadata)
        machine = psu.importers.nir.load(net)
        assert machine.nodes[0].layer.tau == pytest.approx(100.0, rel=1e-12)
        assert psu.importers.nir.load(net, dt=1e-4).content_hash == machine.content_hash
        psu.importers.nir.load(net, dt=np.float32(1e-4))
        refusal(net, InputError, "was written for dt = 0.0001 s, but dt = 0.001 is asked for; leave it out")
        refusal(net, InputError, "was written for dt = 0.0001 s", dt=1e-4 * (1 + 1e-5))


class TestSources:
    @pytest.mark.parametrize("source", [None, 3, b"net.nir", nir.Scale(np.ones(2)), {}])
    def test_that_are_none(self, source):
        refusal(source, InputError, "expected the path of a NIR file or a nir.NIRGraph", type(source).__name__)

    def test_malformed_graphs_are_not_repaired(self):
        net = graph({"a": lif(), "out": nir.Output(np.array(F))}, [("a", "out")])
        refusal(net, ArtifactError, "has 0 nodes of type Input")
        assert set(net.nodes) == {"a", "out"}

    def test_nan_in_a_graph(self):
        refusal(chain(F, lif(r=np.nan), out=F), ArtifactError, "node 'n0' (LIF): r holds NaN or infinity")


@pytest.mark.full
def test_nir_is_not_imported_before_it_is_needed():
    code = "import sys, psu_deploy as psu; psu.importers.nir.load; print({'nir', 'h5py'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
