"""Thresholds move inside their gaps: no spike changes, knife edges get fewer, and what cannot move says why.

What a network does on x is computed by the oracles: full T x T matrices in float64 numpy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.centring import check, decisions
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import certify
from tests import oracles
from tests.helpers import RawLIF
from tests.oracles import estimated, filtered
from tests.verify.networks import randomised
from tests.zoo import LEAK, LEARNED, NETWORKS, NEURONS, STRICT, chain, inputs, neuron, normal

T, B = 6, 40


def levels(layer, current):
    """V - R of every step by the equations."""
    if isinstance(layer, ops.LIFNeuron):
        tau = np.inf if layer.tau is None else layer.tau
        return RawLIF(tau, layer.threshold, layer.reset, layer.decay_input, layer.fire_on)(current)[0]
    V = filtered(layer.integrate, current)
    if layer.reset is None:
        return V
    E = V if layer.estimate is None else filtered(layer.estimate, current)
    return V - filtered(layer.reset, estimated(layer.estimator, E))


def gap(layer, current):
    """Largest V - R that stays silent, smallest that fires."""
    level = levels(layer, current)
    fired = oracles.output_of(layer, current) > 0
    return level[~fired].max(), level[fired].min()


def on_the_edge(machine, x):
    """Every threshold where one of the decisions of the first step lies, as near as a float32 number can."""
    values = oracles.run(machine, np.float64(x))
    for node in machine.nodes:
        if isinstance(node.layer, ops.SpikingNeuron | ops.LIFNeuron):
            first = np.sort(levels(node.layer, values[node.inputs[0]])[0].ravel())
            layer = replace(node.layer, threshold=float(np.float32(first[2 * len(first) // 3])))
            nodes = tuple(replace(n, layer=layer) if n.name == node.name else n for n in machine.nodes)
            machine = StateMachine(nodes, machine.input_shape, machine.output)
            values = oracles.run(machine, np.float64(x))
    return machine


def two_layers(kind):
    weights = ops.Linear(normal(9, 5), normal(9)), ops.Linear(normal(7, 9, seed=1)), ops.Linear(normal(3, 7))
    return chain((5,), weights[0], kind, weights[1], kind, weights[2])


def layer_of(machine, name):
    return next(node.layer for node in machine.nodes if node.name == name)


MOVING = ("psu", "psu fires on more", "ipsu", "ipsu as coded", "rpsu", "ppsu", "sliding", "staircase", "lif", "if")


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", MOVING)
def test_no_spike_changes_and_knife_edges_vanish(name):
    machine = two_layers(NEURONS[name])
    x = inputs(machine, T, B)
    machine = on_the_edge(machine, x)
    centred, report = psu.centre_thresholds(machine, x)
    before, after = (oracles.run(network, np.float64(x)) for network in (machine, centred))
    for node in machine.nodes:
        assert np.array_equal(before[node.name], after[node.name]), node.name
    assert report.knife_edges >= 2
    assert report.knife_edges_centred < report.knife_edges
    assert report.moved >= 1
    for row in report.layers:
        old, new = layer_of(machine, row.name), layer_of(centred, row.name)
        assert (row.threshold, row.centred) == (old.threshold, new.threshold)
        assert row.knife_edges_centred <= row.knife_edges
        below, above = gap(old, before[{"b": "a", "d": "c"}[row.name]])
        assert row.reason or below < new.threshold < above
        assert new.threshold == np.float32(new.threshold)
        assert np.array_equal(vars(replace(new, threshold=old.threshold)).keys(), vars(old).keys())
        assert all(vars(new)[key] is vars(old)[key] for key in vars(old).keys() - {"threshold"})
        assert row.decisions == before[row.name].size


def test_the_report_counts_what_the_oracle_counts():
    machine = two_layers(NEURONS["rpsu"])
    x = inputs(machine, T, B)
    machine = on_the_edge(machine, x)
    centred, report = psu.centre_thresholds(machine, x)
    columns = (("knife_edges", "tightest", machine), ("knife_edges_centred", "tightest_centred", centred))
    for edges, tightest, network in columns:
        values = oracles.run(network, np.float64(x))
        bounds = certify(network, x, network.trace(np.float64(x))).bounds.margin
        for row in report.layers:
            layer = layer_of(network, row.name)
            margin = np.abs(levels(layer, values[{"b": "a", "d": "c"}[row.name]]) - layer.threshold)
            assert getattr(row, edges) == (margin <= bounds[row.name].numpy()).sum()
            assert getattr(row, tightest) == pytest.approx(margin.min(), rel=1e-6, abs=1e-14)
    lines = str(report).splitlines()
    assert f"knife edges {report.knife_edges} -> {report.knife_edges_centred} of" in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["b", "d"]
    assert f"{report.layers[1].centred:.9g}" in lines[3]


def fires_at(threshold, fire_on=">="):
    return chain((1,), neuron(o.Identity(), threshold=threshold, fire_on=fire_on))


def at(*values):
    """One neuron, one sample, a step for each value."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(("fire_on", "middle"), [(">=", 0.625), (">", 1.5)])
def test_a_tie_moves_off(fire_on, middle):
    """A decision of margin zero fires on >= and not on >: it stays what it is, and is no tie any more."""
    machine, x = fires_at(1.0, fire_on), at(0.25, 1.0, 2.0)
    centred, report = psu.centre_thresholds(machine, x)
    assert layer_of(centred, "a").threshold == middle
    assert np.array_equal(machine.run(x), centred.run(x))
    (row,) = report.layers
    assert (row.tightest, row.tightest_centred) == (0.0, abs(middle - 1.0))
    assert (row.knife_edges, row.knife_edges_centred) == (1, 0)


def big_and_small():
    """1e5 x0 + x1, then less 1e5 x0: what is left of x1 is rounded to 2**-7 where x0 is one, exact where it is zero."""
    sums = ops.Linear(np.array([[1e5, 1.0], [1.0, 0.0]]))
    return chain((2,), sums, ops.Linear(np.array([[1.0, -1e5]])), neuron(o.Identity(), threshold=1.0083))


def test_a_place_with_fewer_knife_edges_is_better_than_the_middle():
    """Silent at 1.0 with a wide bound, firing at 1.5 with a narrow one: away from the first, close to the second."""
    x = np.array([[0.9, 1.0], [0.0, 1.2]], np.float32)[:, None]
    machine = big_and_small()
    machine = StateMachine(
        (*machine.nodes[:2], replace(machine.nodes[2], layer=neuron(o.Identity(), threshold=1.01))), (2,)
    )
    exact = certify(machine, x, machine.trace(np.float64(x)))
    reach = float(exact.bounds.margin["c"][0, 0, 0])
    if not 0.1 < reach < 0.2:
        pytest.fail(f"the example is none: the middle 1.1 must be in reach of 1.0, and 1.2 not, and it is {reach}")
    centred, report = psu.centre_thresholds(machine, x)
    assert (report.knife_edges, report.knife_edges_centred) == (1, 0)
    assert 1.0 + reach < layer_of(centred, "c").threshold < 1.2
    assert layer_of(centred, "c").threshold == pytest.approx((1.0 + reach + 1.2) / 2, abs=1e-3)


def test_a_spike_that_was_right_by_luck_is_not_given_up():
    """1.00391 is silent at 1.0083, and so is 1.0078, what float32 makes of it; but not at the middle, 1.0062."""
    machine = big_and_small()
    x = np.array([[1.0, 1.00391], [0.0, 1.0085]], np.float32)[:, None]
    assert machine.run(x).ravel().tolist() == [0, 1]
    moved = StateMachine((*machine.nodes[:2], Node("c", neuron(o.Identity(), threshold=1.0062), ("b",))), (2,))
    assert moved.run(x).ravel().tolist() == [1, 1]
    assert moved.run(np.float64(x)).ravel().tolist() == [0, 1]
    centred, report = psu.centre_thresholds(machine, x)
    assert layer_of(centred, "c").threshold == 1.0083
    (row,) = report.layers
    assert row.reason == "its gap is narrower than rounding: in the model's own precision a spike would change"
    assert (row.centred, row.tightest_centred) == (row.threshold, row.tightest)


def test_what_rounding_turned_comes_back():
    """A margin of -1e-9 is zero in float32, which fires; away from the threshold it does not."""
    machine = chain((2,), ops.Linear(np.array([[1.0, -1e-9]])), neuron(o.Identity(), threshold=1.0))
    x = np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 0.0]], np.float32)[:, None]
    assert machine.run(x).ravel().tolist() == [1, 1, 0]
    centred, report = psu.centre_thresholds(machine, x)
    assert centred.run(x).ravel().tolist() == machine.run(np.float64(x)).ravel().tolist() == [0, 1, 0]
    assert (report.turned, report.turned_centred) == (1, 0)
    assert "made 1 decision(s) unlike exact arithmetic, 0 now" in str(report)
    assert (report.changed, report.changed_outputs) == (1, 1)
    title = str(report).splitlines()[0]
    assert "in exact arithmetic no spike and no output on x is another, in its own precision 1 spike(s) and 1 " in title
    assert title.endswith("value(s) of outputs are, where rounding had turned a decision")


def test_outputs_that_follow_a_turned_spike_are_counted():
    """As above, read out twice: one spike, and two values of the output."""
    fire, read = neuron(o.Identity(), threshold=1.0), ops.Linear(np.array([[2.0], [3.0]]))
    machine = chain((2,), ops.Linear(np.array([[1.0, -1e-9]])), fire, read)
    x = np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 0.0]], np.float32)[:, None]
    centred, report = psu.centre_thresholds(machine, x)
    assert int((machine.run(x) != centred.run(x)).sum()) == 2
    assert np.array_equal(machine.run(np.float64(x)), centred.run(np.float64(x)))
    assert (report.changed, report.changed_outputs) == (1, 2)


def test_a_report_without_changes_says_so():
    _, report = psu.centre_thresholds(fires_at(1.0), at(0.25, 1.0, 2.0))
    assert (report.changed, report.changed_outputs) == (0, 0)
    assert "no spike and no output on x is another, nor in its own precision" in str(report)


STAYING = {
    "soft": (ops.LIFNeuron(2.0, True, 1.0, "soft", ">="), at(0.5, 3.0, 1.0), "soft reset subtracts V_th"),
    "at random": (ops.BernoulliNeuron(LEAK, 3), at(0.5, 3.0, 1.0), "fires at random and has no threshold"),
    "silent": (neuron(o.Identity(), threshold=9.0), at(0.5, 3.0), "never fired on x"),
    "busy": (neuron(o.Identity(), threshold=0.1), at(0.5, 3.0), "every decision on x was a spike"),
    "middle": (neuron(o.Identity(), threshold=1.5), at(1.0, 2.0), "it lies as far from all decisions as it can"),
    "no number": (
        neuron(o.Identity(), threshold=1.0, fire_on=">"), at(1.0, 1.0 + 2**-23), "no float32 number lies there"
    ),
}  # fmt: skip


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", STAYING)
def test_what_stays_says_why(name):
    layer, x, reason = STAYING[name]
    machine = chain((1,), layer)
    centred, report = psu.centre_thresholds(machine, x)
    (row,) = report.layers
    assert reason in row.reason
    assert reason in str(report)
    assert centred.content_hash == machine.content_hash
    assert row.threshold == row.centred
    assert (row.tightest, row.knife_edges) == (row.tightest_centred, row.knife_edges_centred)


@pytest.mark.full
def test_late_rows_are_left_out():
    """Layers behind a look-ahead see steps that belong to no input: no decision of those counts."""
    machine = NETWORKS["look-ahead"]
    x = inputs(machine, 4, 3)
    centred, report = psu.centre_thresholds(machine, x)
    assert {row.name: row.decisions for row in report.layers} == {
        name: 4 * 3 * int(np.prod(machine.shapes[name])) for name in machine.spiking
    }
    assert psu.verify(machine, centred, x).spike_flips == 0


def module():
    torch.manual_seed(0)
    layers = nn.Linear(5, 9), psu.RPSU(T), nn.Linear(9, 9), psu.LIF(), nn.Linear(9, 3)
    return randomised(psu.SpikingSequential(*layers))


class Twice(nn.Module):
    """One neuron in two places."""

    def __init__(self, neuron):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.fire = nn.Linear(5, 9), nn.Linear(9, 9), neuron
        nn.init.normal_(self.second.weight)

    def forward(self, x):
        return self.fire(self.second(self.fire(self.first(3 * x))))


class TestModule:
    X = np.random.default_rng(3).normal(0.5, 4.0, (T, 64, 5)).astype(np.float32)

    @pytest.mark.full
    def test_it_is_copied_and_fires_the_same(self):
        model, x = module(), torch.from_numpy(self.X)
        centred, report = psu.centre_thresholds(model, x)
        assert [type(layer) for layer in centred] == [type(layer) for layer in model]
        assert (model[1].threshold, model[3].threshold) == (1.0, 1.0)
        assert [row.centred for row in report.layers] == [centred[1].threshold, centred[3].threshold]
        assert report.moved == 2
        assert centred[1].reset.gain == model[1].reset.gain == 1.0
        assert torch.equal(model(x), centred(x))
        now = psu.to_state_machine(centred, (5,))
        assert now.content_hash == psu.centre_thresholds(psu.to_state_machine(model, (5,)), x)[0].content_hash
        assert psu.verify(centred, now, x).ok

    @pytest.mark.full
    def test_a_gradient_still_flows(self):
        centred, _ = psu.centre_thresholds(module(), self.X)
        centred(torch.from_numpy(self.X)).sum().backward()
        assert all(parameter.grad is not None for parameter in centred.parameters())

    @pytest.mark.full
    def test_a_shared_threshold_moves_as_one(self):
        """Into what the gaps of both places have in common."""
        model = Twice(psu.PSU())
        centred, report = psu.centre_thresholds(model, self.X)
        first, second = report.layers
        assert (first.name, second.name) == ("fire", "fire#2")
        assert first.centred == second.centred == centred.fire.threshold != 1.0
        machine = psu.to_state_machine(model, (5,))
        values = oracles.run(machine, np.float64(self.X))
        gaps = [gap(node.layer, values[node.inputs[0]]) for node in machine.nodes if node.name in machine.spiking]
        assert max(below for below, _ in gaps) < first.centred < min(above for _, above in gaps)

    @pytest.mark.full
    def test_two_places_of_which_one_is_silent(self):
        """What no data bound in one place is bound in the other."""
        model = Twice(psu.PSU())
        with torch.no_grad():
            model.second.weight.zero_()
            model.second.bias.zero_()
        _, report = psu.centre_thresholds(model, self.X)
        assert report.layers[0].reason == report.layers[1].reason == ""

    @pytest.mark.full
    def test_a_double_module(self):
        model = module().double()
        centred, report = psu.centre_thresholds(model, np.float64(self.X))
        assert centred[1].threshold != 1.0
        assert report.turned == report.turned_centred == 0


@pytest.mark.full
def test_batches_are_as_good_as_one():
    machine = two_layers(NEURONS["rpsu"])
    x = inputs(machine, T, B)
    whole, one = psu.centre_thresholds(machine, x)
    parts, other = psu.centre_thresholds(machine, (torch.from_numpy(part) for part in np.split(x, 4, axis=1)))
    assert whole.content_hash == parts.content_hash
    assert one == other


@pytest.mark.full
def test_a_large_batch_is_looked_at_in_parts(monkeypatch):
    machine = two_layers(NEURONS["ipsu"])
    x = inputs(machine, T, B)
    whole, one = psu.centre_thresholds(machine, x)
    monkeypatch.setattr("psu_deploy.forms._DECISIONS_AT_ONCE", 7 * T * (9 + 7))
    parts, other = psu.centre_thresholds(machine, x)
    assert (whole.content_hash, one) == (parts.content_hash, other)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([], "x is an iterable without a batch"),
        ([(at(1.0), 0)], "batch 0 of x must be an array (T, B, *features), got tuple"),
        (3, "x must be an array (T, B, *features) or an iterable of such, got int"),
        ("x.npy", "got str"),
        (at(np.nan), "x holds NaN"),
        (np.full((1, 1, 1), 1e300), "x holds NaN or infinity"),
        (np.zeros((2, 3), np.float32), "x must be time-first"),
    ],
)
def test_input_that_is_none(x, said):
    with pytest.raises(psu.InputError) as caught:
        psu.centre_thresholds(fires_at(1.0), x)
    assert said in str(caught.value)


def test_a_network_without_neurons():
    with pytest.raises(psu.InputError, match="no neuron layer"):
        psu.centre_thresholds(chain((2,), ops.Linear(np.eye(2))), np.zeros((1, 1, 2), np.float32))


def test_a_neuron_keeps_its_reset():
    """`fire_at` moves the decision and nothing else."""
    x = torch.randn(T, B, 5)
    one, other = psu.PSU(), psu.PSU(threshold=0.75, reset_gain=1.0)
    one.fire_at(0.75)
    assert torch.equal(one(x), other(x))
    assert all(torch.equal(*pair) for pair in zip(one.margin(x), other.margin(x), strict=True))
    with pytest.raises(psu.InputError, match="threshold must be finite"):
        one.fire_at(np.inf)


def test_a_wrong_threshold_would_be_found():
    """The check after it: spikes of another network are not let through."""
    one, other = (two_layers(neuron(LEAK, LEARNED, STRICT, threshold=value)) for value in (0.4, 0.5))
    x = inputs(one, T, B)
    with pytest.raises(psu.InternalError, match="changed spikes of layer 'b'"):
        check.check_exact(one, other, x)
    last = chain((5,), *(node.layer for node in one.nodes[:-1]), ops.Linear(normal(3, 7, seed=9)))
    with pytest.raises(psu.InternalError, match="changed the output 'y'"):
        check.check_exact(one, last, x)
    assert decisions.exact_run(one, x).output.dtype == np.float64
