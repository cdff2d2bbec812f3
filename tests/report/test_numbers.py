"""What is counted, against the same counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy import forms
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.report.collected import Collected
from psu_deploy.report.differences import Differences, First, Side, reached
from psu_deploy.report.margins import BINS, LOWEST, PER_DECADE, Margins, closest
from psu_deploy.report.operations import operations
from psu_deploy.report.samples import NEURONS, STEPS, window
from psu_deploy.verify import certify
from psu_deploy.verify.witness import Seen
from tests.report.conftest import B, N, T, inputs, network, seen, weights


def margins(*parts):
    found = Margins()
    start = 0
    for margin, bound in parts:
        found.add(start, torch.as_tensor(margin), torch.as_tensor(bound))
        start += margin.shape[1]
    return found


class TestMargins:
    def test_a_decision_is_certified_beyond_its_own_bound(self):
        found = margins((np.array([[[0.5, -0.5, 0.1, -0.1, 0.0]]]), np.array([[[0.1, 0.1, 0.1, 0.2, 0.0]]])))
        assert (found.decisions, found.certified) == (5, 2)
        assert found.share == 0.4

    def test_the_closest_is_nearest_to_its_own_bound(self):
        margin, bound = np.array([[[0.5, -0.4]], [[0.4, 9.0]]]), np.array([[[0.1, 0.1]], [[0.2, 0.1]]])
        (one, other) = closest(torch.as_tensor(margin), torch.as_tensor(bound), 2)
        assert one == (1, 0, (0,), 0.4, 0.2)
        assert one.times == 2.0
        assert other == (0, 0, (1,), -0.4, 0.1)

    @pytest.mark.parametrize(
        ("margin", "bound", "times"),
        [(0.3, 0.0, math.inf), (0.0, 0.0, 0.0), (0.3, math.inf, 0.0)],
    )
    def test_a_bound_of_nothing_and_one_of_everything(self, margin, bound, times):
        found = margins((np.full((1, 1, 1), margin), np.full((1, 1, 1), bound)))
        assert found.closest.times == times
        assert found.certified == (times > 1)

    def test_every_decision_is_in_one_bin(self):
        size = np.array([0.0, 1e-20, 1e-5, 0.5, 0.5, 1e9]).reshape(1, 1, -1)
        found = margins((-size, np.full_like(size, 1e-4)))
        assert found.open.sum() == 3
        assert found.sure.sum() == 3
        assert found.open[0] == 2
        assert found.sure[BINS - 1] == 1
        assert found.sure[math.floor((math.log10(0.5) - LOWEST) * PER_DECADE)] == 2

    def test_parts_of_a_batch_are_the_batch(self):
        margin, bound = weights(7, 6, 3), abs(weights(7, 6, 3, seed=1)) / 10
        whole, parts = (
            margins((margin, bound)),
            margins(*((margin[:, i : i + 2], bound[:, i : i + 2]) for i in (0, 2, 4))),
        )
        for one, other in zip(vars(whole).values(), vars(parts).values(), strict=True):
            np.testing.assert_equal(one, other)

    def test_they_are_those_of_the_certificate(self, good):
        machine, collected = network(), good[1].collected
        judged = certify(machine, inputs(), machine.trace(inputs()))
        assert collected.judged == "machine"
        for name, found in collected.margins.items():
            margin, bound = judged.exact.margin[name].numpy(), judged.bounds.margin[name].numpy()
            assert found.decisions == T * B * N
            assert found.certified == (abs(margin) > bound).sum()
            assert found.closest.times == pytest.approx((abs(margin) / bound).min(), rel=1e-12)
            assert found.bounds == (bound.min(), bound.max())


class TestDifferences:
    def traces(self):
        return network().trace(inputs()).spikes, network(level=0.5).trace(inputs()).spikes

    def test_flips_are_counted_by_layer_and_step(self, wrong):
        first, second = self.traces()
        (found,) = wrong[1].collected.differences
        for name, flips in found.flips.items():
            np.testing.assert_array_equal(flips, (first[name] != second[name]).sum((1, 2)))
        assert found.total == wrong[0].spike_flips > 0
        assert all(flips.any() for flips in found.flips.values())

    def test_the_first_with_what_both_sides_had(self, wrong):
        first, second = self.traces()
        t, sample, unit = np.argwhere(first["hidden"] != second["hidden"])[0]
        found = wrong[1].collected.first.first
        assert (found.layer, found.t, found.sample, found.neuron) == ("hidden", t, sample, (unit,))
        trace = network().trace(inputs())
        potential, reset = (values["hidden"][t, sample, unit] for values in (trace.potential, trace.reset))
        one, other = found.sides
        assert (one.name, other.name) == ("machine", "other machine")
        assert one.potential == other.potential == float(potential)
        assert one.reset == other.reset == float(reset)
        assert (one.spike, other.spike) == (True, False)
        assert one.margin == pytest.approx(potential - reset - 0.4, rel=1e-5)
        assert other.margin == pytest.approx(potential - reset - 0.5, rel=1e-5)

    def test_what_follows_is_what_the_layers_behind_do(self, wrong):
        """They are as they should be, so all that differs there comes from the layer that is not."""
        first, second = self.traces()
        differ = {name: first[name] != second[name] for name in first}
        differences = wrong[1].collected.first
        found = differences.first
        assert found.follow == {"last": differ["last"][found.t :, found.sample].sum()}
        assert found.beside == sum(rows[:, found.sample].sum() for rows in differ.values()) - 1 - found.follow["last"]
        np.testing.assert_array_equal(differences.own["hidden"], differ["hidden"].sum((1, 2)))
        assert differences.total_own == differ["hidden"].sum() < differences.total

    def test_in_a_layer_whose_spikes_feed_back_later_steps_follow(self):
        """Where V, given the spikes before it, is not between the two thresholds, both machines decide by it alike."""
        x = inputs(seed=1, steps=80)
        _, evidence = seen(network(), network(threshold=0.32), x)
        found = evidence.collected.first.first
        one, other = (network(threshold=level).trace(x) for level in (0.3, 0.32))
        differ = (one.spikes["last"] != other.spikes["last"])[:, found.sample]
        potential = other.potential["last"][:, found.sample]
        own = differ & (potential >= 0.3) & (potential < 0.32)
        assert found.follow == {"last": differ.sum() - own.sum()}
        assert found.follow["last"] > 0
        assert found.beside == own.sum() - 1

    def test_where_nobody_judged_all_that_comes_later_may_follow(self):
        x = inputs(seed=1, steps=40)
        traces = tuple(network(threshold=level).trace(x) for level in (0.3, 0.32))
        found = Differences(("machine", "integers"))
        found.add(network(), 10, Seen(("machine", "integers"), traces, (), "measured"))
        differ = traces[0].spikes["last"] != traces[1].spikes["last"]
        t, sample, _ = np.argwhere(differ)[0]
        assert (found.first.t, found.first.sample) == (t, sample + 10)
        assert found.first.follow == {"last": differ[t + 1 :, sample].sum()}
        assert found.first.margin is None
        assert found.own is found.total_own is None
        assert found.measured

    def test_what_should_not_be_comes_before_what_is_measured(self):
        """However much earlier that is."""
        measured, exact = Differences(("a", "b"), measured=True), Differences(("b", "c"))
        sides = (Side("a", True, None, None, None), Side("b", False, None, None, None))
        measured.first = First("n", 0, 0, (0,), None, None, sides, {}, 0)
        collected = Collected(network(), inputs(), None, [measured, exact])
        assert collected.first is measured
        exact.first = measured.first._replace(t=5)
        assert collected.first is exact

    def test_parts_of_a_batch_are_the_batch(self, wrong, monkeypatch):
        monkeypatch.setattr(forms, "_DECISIONS_AT_ONCE", 2 * 2 * N * T)
        report, evidence = seen(network(), network(level=0.5))
        whole, parts = wrong[1].collected, evidence.collected
        assert report.spike_flips == wrong[0].spike_flips
        assert parts.first.first == whole.first.first
        assert parts.margins["last"].certified == whole.margins["last"].certified
        for kind in ("flips", "own"):
            np.testing.assert_equal(getattr(parts.first, kind), getattr(whole.first, kind))
        np.testing.assert_equal(parts.drifts.layers["last"].errors, whole.drifts.layers["last"].errors)
        for one, other in zip(parts.rasters, whole.rasters, strict=True):
            assert one.sample == other.sample == whole.first.first.sample
            np.testing.assert_equal(one.spikes, other.spikes)
        assert [vars(one).keys() for one in parts.neurons] == [vars(one).keys() for one in whole.neurons]
        assert [(one.layer, one.sample, one.neuron) for one in parts.neurons] == [
            (one.layer, one.sample, one.neuron) for one in whole.neurons
        ]

    def test_nothing_differs(self, good):
        assert good[1].collected.first is None
        assert good[1].collected.differences[0].total == 0


def test_spikes_reach_what_is_behind_and_themselves_where_they_feed_back():
    machine = network()
    assert reached(machine, "hidden") == ["last"]
    assert reached(machine, "last") == ["last"]


def test_drift_is_the_distance_from_exact_arithmetic(good):
    machine, drifts = network(), good[1].collected.drifts
    trace = machine.trace(inputs())
    judged = certify(machine, inputs(), trace)
    for name, drift in drifts.layers.items():
        error = abs(trace.potential[name] - judged.exact.potential[name].numpy()).max((1, 2))
        assert set(drift.errors) == {"machine", "other machine"}
        np.testing.assert_array_equal(drift.errors["machine"], error)
        np.testing.assert_array_equal(drift.bound, judged.bounds.margin[name].numpy().max((1, 2)))
    error = abs(trace.output - judged.exact.output.numpy()).max((1, 2))
    np.testing.assert_array_equal(drifts.outputs["y"].errors["machine"], error)


class TestSamples:
    def test_a_raster_holds_the_spikes_of_its_rows(self, wrong):
        first, second = network().trace(inputs()).spikes, network(level=0.5).trace(inputs()).spikes
        for raster in wrong[1].collected.rasters:
            rows = list(raster.rows)
            for spikes, run in ((first, "machine"), (second, "other machine")):
                np.testing.assert_array_equal(raster.spikes[run], spikes[raster.layer][:, raster.sample][:, rows] != 0)
            np.testing.assert_array_equal(
                raster.flips["other machine"], raster.spikes["machine"] != raster.spikes["other machine"]
            )

    def test_of_a_large_layer_those_that_differ_and_those_that_fired(self):
        def machine(threshold):
            nodes = (
                Node("in", ops.Linear(np.linspace(0.0, 1.0, 100)[:, None]), ("x",)),
                Node("n", ops.LIFNeuron(None, False, threshold, "soft", ">="), ("in",)),
            )
            return StateMachine(nodes, (1,))

        x = np.ones((STEPS * 2, 1, 1), np.float32)
        _, evidence = seen(machine(100.0), machine(100.4), x)
        (raster,) = evidence.collected.rasters
        one, other = (machine(level).trace(x).spikes["n"][:, 0] for level in (100.0, 100.4))
        t = int(np.flatnonzero((one != other).any(1))[0])
        part = window(t, len(x))
        differ, fired = (np.flatnonzero(rows[part].any(0)) for rows in (one != other, one))
        assert raster.first_step == t - STEPS // 3
        assert raster.neurons == 100
        assert len(raster.rows) == NEURONS
        assert raster.spikes["machine"].shape == (STEPS, NEURONS)
        assert 0 < len(differ) < NEURONS < len(fired)
        assert {*differ.tolist()} < {*raster.rows} <= {*fired.tolist()}

    def test_the_neuron_that_differs_comes_first(self, wrong):
        neuron, *others = wrong[1].collected.neurons
        first = wrong[1].collected.first.first
        assert neuron.flipped
        assert (neuron.layer, neuron.neuron, neuron.sample, neuron.t) == first[:1] + (
            first.neuron,
            first.sample,
            first.t,
        )
        trace = network().trace(inputs())
        at = (slice(None), neuron.sample, *neuron.neuron)
        np.testing.assert_array_equal(neuron.runs["machine"].potential, trace.potential["hidden"][at])
        np.testing.assert_allclose(neuron.level - 0.4, trace.reset["hidden"][at], atol=1e-6)
        assert len({(one.layer, one.neuron) for one in (neuron, *others)}) == 1 + len(others)


def test_operations_dense_and_where_something_fired():
    nodes = (
        Node("conv", ops.Conv2d(weights(3, 2, 3, 3), None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1), ("x",)),
        Node("n", ops.LIFNeuron(None, False, 2.0, "soft", ">="), ("conv",)),
        Node("flat", ops.Flatten(), ("n",)),
        Node("fc", ops.Linear(weights(5, 3 * 4 * 4)), ("flat",)),
    )
    machine = StateMachine(nodes, (2, 4, 4))
    x = (np.random.default_rng(0).random((7, 2, 2, 4, 4)) < 0.25).astype(np.float32)
    conv, fc = operations(machine, x)
    assert (conv.layer, conv.dense) == ("conv", 3 * 4 * 4 * 2 * 3 * 3)
    assert conv.events == pytest.approx(conv.dense * x.mean())
    assert (fc.layer, fc.dense) == ("fc", 5 * 48)
    assert fc.events == pytest.approx(5 * machine.trace(x).spikes["n"].sum() / (7 * 2))


def test_evidence_is_needed():
    with pytest.raises(psu.InputError, match="has seen no verification"):
        _ = psu.Evidence().collected
