"""verify finds what is wrong, says where it begins, and calls only rounding rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import certify, compare
from tests.verify.networks import randomised
from tests.zoo import chain

T, B = 8, 3
SHAPE = (5,)
FIRST, SECOND = "1", "3"
"""The two neuron layers."""


def network(seed=0, hidden=16, threshold=1.0):
    torch.manual_seed(seed)
    layers = nn.Linear(5, hidden), psu.RPSU(T, threshold=threshold), nn.Linear(hidden, 8), psu.IPSU(T), nn.Linear(8, 3)
    return randomised(psu.SpikingSequential(*layers))


@pytest.fixture
def model():
    return network()


@pytest.fixture
def machine(model):
    return psu.to_state_machine(model, SHAPE)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(0.5, 2.0, (T, B, *SHAPE)).astype(np.float32)


@pytest.fixture
def artifact(machine, tmp_path):
    return psu.export(machine, tmp_path / "net.onnx")


def flips(first, second):
    """Every decision that differs, (t, layer, sample, neuron), earliest first."""
    layers = [FIRST, SECOND]
    found = [
        (int(t), layers.index(name), int(b), int(n))
        for name in layers
        for t, b, n in np.argwhere(first.spikes[name] != second.spikes[name])
    ]
    return sorted(found)


class TestEqual:
    def test_a_module_is_compared_three_ways(self, model, artifact, x):
        report = psu.verify(model, artifact, x)
        assert [(c.first, c.second) for c in report.comparisons] == [("module", "machine"), ("machine", "onnx")]
        assert report.ok
        assert report.spikes_compared == 2 * T * B * (16 + 8)
        assert (report.spike_flips, report.knife_edge_decisions, report.first_divergence) == (0, 0, None)
        assert 0 <= report.max_abs_error < 1e-5
        assert report.notes == ()

    @pytest.mark.full
    def test_a_machine_is_compared_two_ways(self, machine, artifact, x):
        report = psu.verify(machine, artifact, x)
        assert [(c.first, c.second) for c in report.comparisons] == [("machine", "onnx")]
        assert report.ok
        assert report.spikes_compared == T * B * (16 + 8)

    @pytest.mark.full
    def test_every_layer_is_accounted_for(self, model, machine, artifact, x):
        trace = machine.trace(x)
        for comparison in psu.verify(model, artifact, x).comparisons:
            assert [layer.name for layer in comparison.layers] == [FIRST, SECOND]
            assert [layer.spikes_compared for layer in comparison.layers] == [T * B * 16, T * B * 8]
            assert [layer.spike_flips for layer in comparison.layers] == [0, 0]
            rates = [trace.spikes[layer.name].mean() for layer in comparison.layers]
            np.testing.assert_allclose([layer.firing_rate for layer in comparison.layers], rates, rtol=1e-6)
            assert all(layer.max_potential_error < 1e-5 for layer in comparison.layers)

    @pytest.mark.full
    def test_a_path_will_do(self, model, artifact, x):
        assert psu.verify(model, artifact.path, x).ok
        assert psu.verify(model, str(artifact.path), x).ok

    @pytest.mark.full
    def test_an_open_runner_will_do_and_keeps_its_state(self, model, artifact, x):
        runner = psu.load(artifact)
        whole = runner.run(x)
        runner.run(x[:3])
        assert psu.verify(model, runner, x).ok
        assert np.array_equal(runner.run(x[3:], reset=False), whole[3:])

    @pytest.mark.full
    def test_a_runner_that_was_never_reset_will_do(self, model, artifact, x):
        assert psu.verify(model, psu.load(artifact), x).ok

    @pytest.mark.full
    def test_torch_will_do(self, model, artifact, x):
        assert psu.verify(model, artifact, torch.from_numpy(x)).ok

    @pytest.mark.full
    def test_fewer_steps_than_the_horizon_will_do(self, model, artifact, x):
        assert psu.verify(model, artifact, x[:3]).spikes_compared == 2 * 3 * B * (16 + 8)

    @pytest.mark.full
    def test_a_module_against_its_machine(self, model, machine, x):
        report = psu.verify(model, machine, x)
        assert [(c.first, c.second) for c in report.comparisons] == [("module", "machine")]
        assert report.ok

    @pytest.mark.full
    def test_a_readout_gives_one_output(self, tmp_path, x):
        class Classifier(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = network()

            def forward(self, x):
                return self.layers(x).mean(0)

        model = Classifier()
        report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=SHAPE), x)
        assert report.ok
        assert report.spikes_compared == 2 * T * B * (16 + 8)

    @pytest.mark.full
    def test_a_double_module_is_judged_as_such(self, model, x):
        report = psu.verify(model.double(), psu.to_state_machine(model, SHAPE), x.astype(np.float64))
        assert report.ok
        assert report.max_abs_error < 1e-12

    @pytest.mark.full
    def test_a_single_module_fed_with_doubles_is_judged_as_single(self, model, machine, x):
        assert psu.verify(model, machine, x.astype(np.float64)).ok

    @pytest.mark.full
    def test_the_module_is_left_as_it_was(self, artifact, x):
        model = psu.SpikingSequential(*network(), nn.Dropout(0.5), nn.BatchNorm1d(3))
        model.train()
        model[1].eval()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        psu.verify(model, psu.to_state_machine(model, SHAPE), x)
        assert [layer.training for layer in model] == [True, False, True, True, True, True, True]
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert not any(module._forward_hooks for module in model.modules())

    @pytest.mark.full
    def test_a_neuron_that_nobody_reads_is_not_asked_for(self, x):
        class TwoHeads(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.used, self.unused = network(), psu.PSU(), psu.PSU()

            def forward(self, x):
                y = self.body(x)
                self.unused(y)
                return self.used(y)

        model = TwoHeads()
        assert psu.verify(model, psu.to_state_machine(model, SHAPE), x).ok


class TestDifferent:
    def check(self, report, first, second):
        """Not equal, and everything that is said about it is what an own count finds."""
        expected = flips(first, second)
        assert expected
        assert not report.ok
        assert report.verdict.startswith("NOT EQUIVALENT: ")
        wrong = report.comparisons[-1]
        assert wrong.spike_flips == report.spike_flips == len(expected)
        for depth, layer in enumerate(wrong.layers):
            assert layer.spike_flips == sum(flip[1] == depth for flip in expected)
        found = report.first_divergence
        assert (found.t, (FIRST, SECOND).index(found.layer)) == expected[0][:2]
        assert (found.t, (FIRST, SECOND).index(found.layer), found.sample, *found.neuron) == expected[0]
        assert not found.knife_edge

    @pytest.mark.full
    @pytest.mark.parametrize("layer", [0, 2])
    def test_a_perturbed_weight(self, model, machine, x, tmp_path, layer):
        other = network()
        with torch.no_grad():
            other[layer].weight[0] += 0.5
        wrong = psu.to_state_machine(other, SHAPE)
        report = psu.verify(model, psu.export(wrong, tmp_path / "net.onnx"), x)
        self.check(report, machine.trace(x), wrong.trace(x))
        assert report.comparisons[0].ok
        assert any("it was made from another network" in note for note in report.notes)

    @pytest.mark.full
    def test_a_swapped_threshold(self, model, machine, x, tmp_path):
        wrong = psu.to_state_machine(network(threshold=0.8), SHAPE)
        report = psu.verify(model, psu.export(wrong, tmp_path / "net.onnx"), x)
        self.check(report, machine.trace(x), wrong.trace(x))

    @pytest.mark.full
    def test_another_matrix_along_time(self, model, machine, x, tmp_path):
        other = network()
        with torch.no_grad():
            other[3].integrate.entries[-1] += 3.0
        wrong = psu.to_state_machine(other, SHAPE)
        report = psu.verify(model, psu.export(wrong, tmp_path / "net.onnx"), x)
        self.check(report, machine.trace(x), wrong.trace(x))
        assert (report.first_divergence.layer, report.first_divergence.t) == (SECOND, T - 1)

    @pytest.mark.full
    def test_a_wrong_readout_layer(self, model, x, tmp_path):
        """No neuron sees it: only the outputs tell."""
        other = network()
        with torch.no_grad():
            other[4].bias[0] += 1e-3
        report = psu.verify(model, psu.export(other, tmp_path / "net.onnx", input_shape=SHAPE), x)
        assert not report.ok
        assert report.spike_flips == 0
        assert report.first_divergence is None
        assert report.max_abs_error == pytest.approx(1e-3, rel=0.01)
        assert "onnx: an output is off by 0.001, more than rounding explains, first at step 0" in report.verdict

    @pytest.mark.full
    def test_a_dropped_layer(self, model, machine, x, tmp_path):
        kept = [
            replace(node, inputs=("0",)) if node.name == "2" else node for node in machine.nodes if node.name != "1"
        ]
        wrong = StateMachine(tuple(kept), SHAPE)
        report = psu.verify(model, psu.export(wrong, tmp_path / "net.onnx"), x)
        assert not report.ok
        assert report.verdict.startswith(
            "NOT EQUIVALENT: the file is of another network, it differs in 10 places and more"
        )
        assert report.verdict.endswith("; onnx: layer '1' is missing")

    @pytest.mark.full
    def test_another_number_of_neurons(self, model, x, tmp_path):
        artifact = psu.export(network(hidden=17), tmp_path / "net.onnx", input_shape=SHAPE)
        report = psu.verify(model, artifact, x)
        assert "onnx: spikes of '1' have shape (8, 3, 17), expected (8, 3, 16)" in report.verdict

    @pytest.mark.full
    def test_another_machine(self, machine, x):
        other = psu.to_state_machine(network(seed=1), SHAPE)
        report = psu.verify(machine, other, x)
        assert [(c.first, c.second) for c in report.comparisons] == [("machine", "other machine")]
        self.check(report, machine.trace(x), other.trace(x))

    @pytest.mark.full
    def test_a_module_against_another_machine(self, model, x):
        assert not psu.verify(model, psu.to_state_machine(network(seed=1), SHAPE), x).ok

    @pytest.mark.full
    def test_other_weights_are_found_even_if_nothing_flips(self, model, x, tmp_path):
        """One weight is the next float32."""
        other = network()
        with torch.no_grad():
            other[4].weight[0, 1] *= 1 + 2**-23
        artifact = psu.export(other, tmp_path / "net.onnx", input_shape=SHAPE)
        report = psu.verify(model, artifact, x)
        assert not report.ok
        assert (report.spike_flips, report.comparisons[1].failures) == (0, ())
        weights = [m[4].weight[0, 1].item() for m in (other, model)]
        said = "constant '4.weight' is {!r} at (0, 1), exporting this network gives {!r}".format(*weights)
        assert report.differences == (said,)
        assert report.verdict == f"NOT EQUIVALENT: {said}"
        (note,) = report.notes
        assert artifact.machine_hash[:12] in note
        assert "if that is not intended, export it again" in note


class TestTraces:
    """Damage done to one of two good traces."""

    @pytest.fixture
    def traces(self, machine, x):
        return machine.trace(x), machine.trace(x)

    def compare(self, machine, x, traces):
        return compare(machine, x, ("good", traces[0]), ("bad", traces[1]))

    @pytest.mark.full
    def test_two_good_ones(self, machine, x, traces):
        assert self.compare(machine, x, traces).ok

    @pytest.mark.full
    @pytest.mark.parametrize("layer", [FIRST, SECOND])
    @pytest.mark.parametrize("where", [(0, 0, 0), (T - 1, B - 1, 7), (3, 1, 4)])
    def test_one_flipped_spike(self, machine, x, traces, layer, where):
        good, bad = traces
        bad.spikes[layer][where] = 1 - bad.spikes[layer][where]
        found = self.compare(machine, x, traces)
        assert not found.ok
        assert found.spike_flips == 1
        assert {c.name: c.spike_flips for c in found.layers} == {FIRST: 0, SECOND: 0} | {layer: 1}
        t, sample, neuron = where
        assert found.first_divergence[:4] == (layer, t, sample, (neuron,))
        assert found.first_divergence in found.unexplained
        assert found.first_divergence.margin == pytest.approx(good.margin[layer][where], abs=1e-5)
        assert found.first_divergence.bound < abs(found.first_divergence.margin)

    def test_a_flip_that_everything_else_agrees_with(self):
        """The last layer's spikes are the output: V, R, state and output are all as they follow from the flip."""
        machine = chain((3,), ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, ">="))
        x = np.full((2, 1, 3), 0.5, np.float32)
        good, bad = machine.trace(x), machine.trace(x)
        bad.spikes["a"][1, 0, 2] = bad.output[1, 0, 2] = 1.0
        found = self.compare(machine, x, (good, bad))
        assert found.failures == ("bad: spikes of layer 'a' contradict its own margins, first at step 1",)
        assert [decision[:4] for decision in found.unexplained] == [("a", 1, 0, (2,))]
        assert not found.ok

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_an_output_that_is_no_number(self, machine, x, traces, which, value):
        traces[which].output[2, 1, 0] = value
        found = self.compare(machine, x, traces)
        assert not found.ok
        assert found.failures == (f"{('good', 'bad')[which]}: output holds NaN or infinity",)

    def test_spikes_that_are_no_number(self, machine, x, traces):
        traces[1].spikes[FIRST][0, 0, 0] = np.nan
        assert self.compare(machine, x, traces).failures == ("bad: spikes of '1' are not all 0 or 1",)

    def test_spikes_that_are_no_spikes(self, machine, x, traces):
        traces[1].spikes[FIRST][0, 0, 0] = 0.5
        assert self.compare(machine, x, traces).failures == ("bad: spikes of '1' are not all 0 or 1",)

    @pytest.mark.parametrize("layer", [FIRST, SECOND])
    def test_a_missing_layer(self, machine, x, traces, layer):
        del traces[1].spikes[layer]
        assert self.compare(machine, x, traces).failures == (f"bad: layer {layer!r} is missing",)

    def test_missing_steps(self, machine, x, traces):
        good, bad = traces
        found = self.compare(machine, x, (good, replace(bad, output=bad.output[:-1])))
        assert found.failures == ("bad: output has shape (7, 3, 3), expected (8, 3, 3)",)
        short = replace(bad, spikes=bad.spikes | {FIRST: bad.spikes[FIRST][:-1]})
        assert not self.compare(machine, x, (good, short)).ok

    def test_everything_wrong_is_said_at_once(self, machine, x, traces):
        good, bad = traces
        good.output[:] = np.nan
        del bad.spikes[FIRST]
        assert len(self.compare(machine, x, traces).failures) == 2

    def test_an_output_beyond_rounding(self, machine, x, traces):
        traces[1].output[4, 0, 0] += 1e-3
        (failure,) = self.compare(machine, x, traces).failures
        assert failure == "bad: an output is off by 0.001, more than rounding explains, first at step 4"

    def test_the_same_mistake_in_both(self, machine, x, traces):
        """Two runs that agree are still judged by exact arithmetic."""
        for trace in traces:
            trace.spikes[SECOND][0, 0, 0] = 1 - trace.spikes[SECOND][0, 0, 0]
        found = self.compare(machine, x, traces)
        assert found.spike_flips == 0
        assert not found.ok


def knife_edge(gap):
    """One synapse brings 1, one takes `gap` away, against a threshold of 1; eight neurons behind that one."""
    fire = ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, ">=")
    behind = ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 0.5, ">=")
    return chain((2,), ops.Linear(np.array([[1.0, -gap]])), fire, ops.Linear(np.ones((8, 1))), behind)


class TestKnifeEdge:
    """A margin of -1e-9 is zero in float32, which fires; exactly, it is below the threshold."""

    X = np.ones((1, 1, 2), np.float32)

    def traces(self, machine):
        return ("exact", machine.trace(self.X.astype(np.float64))), ("single", machine.trace(self.X))

    def test_it_is_reported_and_excused(self):
        machine = knife_edge(1e-9)
        exact, single = self.traces(machine)
        assert (exact[1].spikes["b"].item(), single[1].spikes["b"].item()) == (0.0, 1.0)
        found = compare(machine, self.X, exact, single)
        assert found.ok
        (decision,) = found.disputed
        assert decision.knife_edge
        assert decision[:4] == ("b", 0, 0, (0,))
        assert decision.margin == pytest.approx(-1e-9, rel=1e-6)
        assert 1e-9 < decision.bound < 1e-5
        assert found.first_divergence == decision

    def test_what_follows_from_it_is_counted_and_excused(self):
        """Nine flips, one decision."""
        machine = knife_edge(1e-9)
        report = psu.EquivalenceReport((compare(machine, self.X, *self.traces(machine)),))
        assert report.ok
        assert (report.spike_flips, report.knife_edge_decisions) == (9, 1)
        assert report.verdict == (
            "EQUIVALENT up to rounding: 9 of 9 spikes differ, all behind 1 knife-edge decision(s) "
            "whose margin is below the rounding error; outputs differ by up to 1, 0 of 1 answers of the readout changed"
        )

    def test_a_real_error_behind_it_is_not_excused(self):
        machine = knife_edge(1e-9)
        exact, single = self.traces(machine)
        single[1].spikes["d"][0, 0, 3] = 0.0
        found = compare(machine, self.X, exact, single)
        assert not found.ok
        assert [d[:4] for d in found.unexplained] == [("d", 0, 0, (3,))]

    def test_a_wider_gap_is_no_knife_edge(self):
        """The same flip, made by hand where rounding cannot make it."""
        machine = knife_edge(1e-3)
        exact, single = self.traces(machine)
        assert np.array_equal(exact[1].spikes["b"], single[1].spikes["b"])
        single[1].spikes["b"][...] = 1.0
        assert not compare(machine, self.X, exact, single).ok

    @pytest.mark.full
    def test_through_the_front_door(self, tmp_path):
        """A module in float64 against a file in float32."""
        model = psu.SpikingSequential(nn.Linear(2, 1, bias=False), psu.PSU(tau=1.0)).double()
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0, -1e-9]]))
        report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(2,)), self.X)
        assert report.ok
        assert report.spike_flips == 1
        assert report.first_divergence.knife_edge
        assert report.verdict.startswith("EQUIVALENT up to rounding: 1 of 2 spikes differ")

    @pytest.mark.full
    def test_one_decision_is_counted_once(self, tmp_path):
        """Machine and file both take -1e-9 for zero; the module does not."""
        model = psu.SpikingSequential(nn.Linear(2, 1, bias=False), psu.PSU(tau=1.0)).double()
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0, -1e-9]]))
        report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(2,)), self.X)
        assert report.knife_edge_decisions == 1

    def test_the_wrong_side_of_a_tie_is_no_rounding(self, tmp_path):
        """> in the file, >= in the machine: V is 1 exactly, and the file's own margin of 0 contradicts its spikes."""
        right, wrong = (
            chain((4,), ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, fire_on))
            for fire_on in (">=", ">")
        )
        report = psu.verify(right, psu.export(wrong, tmp_path / "net.onnx"), np.ones((3, 2, 4), np.float32))
        assert report.spike_flips == 24
        assert not report.ok


class TestRefusals:
    @pytest.mark.full
    def test_a_dtype(self, machine, artifact, x):
        with pytest.raises(psu.InputError, match="x must be float32 or float64, got int64"):
            psu.verify(machine, artifact, x.astype(int))

    @pytest.mark.full
    def test_a_shape(self, machine, artifact, x):
        with pytest.raises(psu.InputError, match=r"x must be time-first, \(T, B, 5\)"):
            psu.verify(machine, artifact, x[..., :4])
        with pytest.raises(psu.InputError, match="x must be time-first"):
            psu.verify(network(), artifact, x[0])

    @pytest.mark.full
    def test_not_a_number(self, machine, artifact, x):
        x[1, 1, 1] = np.nan
        with pytest.raises(psu.InputError, match=r"x holds NaN or infinity, first at index \(1, 1, 1\)"):
            psu.verify(machine, artifact, x)

    @pytest.mark.full
    def test_too_many_steps(self, machine, artifact, x):
        with pytest.raises(psu.HorizonError, match="the machine's horizon is 8"):
            psu.verify(machine, artifact, np.concatenate([x, x]))

    def test_a_missing_artifact(self, machine, x, tmp_path):
        with pytest.raises(psu.ArtifactError, match="cannot read"):
            psu.verify(machine, tmp_path / "nowhere.onnx", x)

    @pytest.mark.parametrize("thing", [None, 3, b"net.onnx"])
    def test_what_is_no_artifact(self, machine, x, thing):
        with pytest.raises(psu.InputError):
            psu.verify(machine, thing, x)

    @pytest.mark.full
    def test_what_is_no_model(self, artifact, x):
        with pytest.raises(psu.InputError, match="model must be a torch module or a StateMachine, got str"):
            psu.verify("net", artifact, x)


def test_several_spikes_in_one_step_are_no_spike():
    """A simulator that counts hands on what it counted, so everything behind it is consistent with a spike of 2."""
    weights = ops.Linear(2.0 * np.eye(4)), ops.Linear(np.full((1, 4), 0.3))
    spiking = ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 0.5, ">=")
    machine = chain((4,), weights[0], spiking, weights[1])
    x = np.ones((2, 1, 4), np.float32)
    right = machine.trace(x)
    (layer,) = machine.spiking
    assert certify(machine, x, right).ok
    twice = replace(right, output=2 * right.output, spikes={layer: 2 * right.spikes[layer]}, margin={}, state={})
    assert certify(machine, x, twice).wrong == (f"spikes of layer {layer!r} are not all 0 or 1",)
