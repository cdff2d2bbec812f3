"""When a verdict may say EQUIVALENT: bounds of use, neurons that fired, rounding as the module really has it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import Judge, LayerComparison, certify, compare
from tests.amount import tries
from tests.zoo import chain, neuron, normal

T, B = 10, 4
X = np.random.default_rng(0).normal(0.3, 1.5, (T, B, 4)).astype(np.float32)


class TestBatchNorm:
    """A module adds up bias and -mean*scale while it runs: their rounding is theirs, not that of what they come to."""

    def network(self, last, mean=1000.0, threshold=0.05):
        torch.manual_seed(0)
        layers = [nn.Linear(4, 32), nn.BatchNorm1d(32), psu.PSU(threshold=threshold), nn.Linear(32, 3)]
        model = psu.SpikingSequential(*layers, *([nn.BatchNorm1d(3)] if last else [])).eval()
        with torch.no_grad():
            for norm in (module for module in model if isinstance(module, nn.BatchNorm1d)):
                norm.running_mean.uniform_(-mean, mean)
                norm.running_var.uniform_(0.5, 2.0)
                norm.weight.uniform_(0.5, 2.0)
                norm.bias.copy_(norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps))
                norm.bias += 0.1 * torch.randn_like(norm.bias)
        return model

    @pytest.mark.full
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("mean", [1.0, 1e3, 1e4])
    def test_a_right_network_is_called_right(self, last, mean, tmp_path):
        model = self.network(last, mean)
        x = X.copy()
        x[:3] = 0.0  # silent at first
        report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(4,)), x)
        assert report.ok, report.verdict

    def test_the_folded_shift_alone_would_not_do(self):
        """So the test above sees what it is about."""
        model = self.network(True)
        machine = psu.to_state_machine(model, (4,), simplified=False)
        trace = trace_module(model, machine, torch.from_numpy(X))
        forgetful = StateMachine(
            tuple(
                replace(n, layer=replace(n.layer, summed=None)) if isinstance(n.layer, ops.ChannelAffine) else n
                for n in machine.nodes
            ),
            machine.input_shape,
        )
        assert Judge(machine, X).certify(trace).ok
        assert not Judge(forgetful, X).certify(trace).ok

    @pytest.mark.full
    def test_a_wrong_one_is_still_called_wrong(self, tmp_path):
        model = self.network(True, mean=10.0)
        machine = psu.to_state_machine(model, (4,))
        with torch.no_grad():
            model[1].bias += 0.05
        report = psu.verify(model, machine, X)
        assert not report.ok

    def test_what_the_shift_was_summed_of_is_nobody_elses_business(self, tmp_path):
        """Neither machine nor file keeps it, and the hash does not know it."""
        model = psu.SpikingSequential(psu.PSU(), nn.BatchNorm1d(4)).eval()
        machine = psu.to_state_machine(model, (4,))
        unfolded = psu.to_state_machine(model, (4,), simplified=False)
        kept, summed = (m.nodes[-1].layer for m in (machine, unfolded))
        assert kept.summed is None
        np.testing.assert_allclose(summed.summed, np.abs(summed.shift))
        assert machine.content_hash == unfolded.content_hash
        assert psu.StateMachine.load(unfolded.save(tmp_path / "net.psm")).nodes[-1].layer.summed is None


def with_branch(weight, gain):
    """A current, and beside it a branch of large numbers that cancel to nothing: it only makes the bound large."""
    nodes = (
        Node("main", ops.Linear(weight), ("x",)),
        Node("cancel", ops.Linear(np.tile([1e30, -1e30, 0.0, 0.0], (6, 1))), ("x",)),
        Node("gain", ops.ChannelAffine(np.full(6, gain), np.zeros(6)), ("cancel",)),
        Node("sum", ops.Add(), ("main", "gain")),
        Node("n", neuron(o.Leak(0.5, 0.5), None, o.StrictLeak(0.5, 0.5)), ("sum",)),
        Node("out", ops.Linear(normal(2, 6)), ("n",)),
    )
    return StateMachine(nodes, (4,))


class TestVacuousBounds:
    """A bound that excuses everything proves nothing."""

    x = np.concatenate([X[..., :1], X[..., :1], X[..., 2:]], axis=-1)  # the first two cancel exactly

    @pytest.mark.parametrize("gain", [1e30, 1.0], ids=["infinite", "larger than any margin"])
    def test_a_wrong_network_behind_one_is_not_proven(self, gain):
        """Weights times -3: nearly every decision differs."""
        weight = normal(6, 4)
        machine, wrong = with_branch(weight, gain), with_branch(-3 * weight, gain)
        assert np.isfinite(machine.run(self.x)).all()
        found = compare(machine, self.x, ("machine", machine.trace(self.x)), ("wrong", wrong.trace(self.x)))
        assert found.spike_flips > 50
        report = psu.EquivalenceReport((found,))
        assert report.status == "NOT PROVEN"
        assert not report.ok
        assert report.verdict.startswith(
            "NOT PROVEN: machine vs wrong: in layer 'n' the rounding bound leaves 100.0% of"
        )
        assert json.loads(json.dumps(report.to_dict()))["status"] == "NOT PROVEN"

    def test_without_the_gain_it_is_called_wrong(self):
        weight = normal(6, 4)
        machine, wrong = with_branch(weight, 0.0), with_branch(-3 * weight, 0.0)
        x = self.x
        found = compare(machine, x, ("machine", machine.trace(x)), ("wrong", wrong.trace(x)))
        assert psu.EquivalenceReport((found,)).status == "NOT EQUIVALENT"

    def test_an_output_without_a_bound_is_not_proven(self):
        nodes = with_branch(normal(6, 4), 1e30).nodes[:4]
        spikes = Node("n", neuron(o.Identity()), ("main",))
        machine = StateMachine((nodes[0], spikes, *nodes[1:]), (4,), "sum")
        report = psu.verify(machine, machine, self.x)
        assert "rounding may move 100.0% of the outputs by as much as they are" in report.verdict
        assert report.status == "NOT PROVEN"

    def test_ties_are_no_reason_to_doubt(self):
        """Whole numbers meet a threshold of 1 exactly in every second step: the bound is tiny, and settles the rest."""
        machine = chain(
            (4,), ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, ">="), ops.Linear(np.ones((1, 4)))
        )
        x = np.tile(np.arange(T, dtype=np.float32)[:, None, None] % 2, (1, B, 4))
        bounds = certify(machine, x, machine.trace(x)).bounds.margin["a"]
        assert (bounds > 0).all()
        assert psu.verify(machine, machine, x).ok

    @pytest.mark.parametrize(("open_", "unbounded", "nothing"), [(10, 0, False), (11, 0, True), (0, 1, True)])
    def test_the_share_that_may_be_open(self, open_, unbounded, nothing):
        layer = LayerComparison("n", 1000, 0, 0.5, None, open_, unbounded)
        assert layer.proves_nothing == nothing


class TestSilence:
    """What never fired, or always did, was not tried both ways."""

    def network(self, *thresholds):
        layers = [ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, threshold, ">=") for threshold in thresholds]
        weights = [ops.Linear(np.eye(4)) for _ in layers]
        return chain((4,), *[layer for pair in zip(weights, layers, strict=True) for layer in pair])

    def verify(self, machine, tmp_path, **options):
        return psu.verify(machine, psu.export(machine, tmp_path / "net.onnx"), X, **options)

    def test_layers_that_were_not_exercised_are_in_the_verdict(self, tmp_path):
        report = self.verify(self.network(0.5, 7.0, 7.0), tmp_path)
        assert report.ok
        assert report.unexercised == ("d", "f")
        compared = f"{3 * T * B * 4} spikes compared, 0 flips"
        assert report.verdict == f"EQUIVALENT on what was exercised: {compared}; layers 'd', 'f' never fired"

    def test_so_are_those_that_always_fired(self, tmp_path):
        report = self.verify(self.network(0.5, -7.0), tmp_path)
        assert report.unexercised == ("d",)
        assert report.verdict.endswith("; layer 'd' fired at every step")

    def test_where_all_were_nothing_is_said(self, tmp_path):
        report = self.verify(self.network(0.5, 0.5), tmp_path)
        assert report.unexercised == ()
        assert report.verdict.startswith("EQUIVALENT: ")

    def test_where_nothing_fires_nothing_is_proven(self, tmp_path):
        report = self.verify(self.network(1e3, 1e3), tmp_path)
        assert not report.ok
        assert report.verdict.startswith("NOT PROVEN: nothing fired")
        allowed = self.verify(self.network(1e3, 1e3), tmp_path, allow_silent=True)
        assert allowed.ok
        assert allowed.verdict.startswith("EQUIVALENT as far as silence tells: 320 decisions compared, 0 flips; layers")

    def test_what_a_silent_layer_holds_is_seen_all_the_same(self, tmp_path):
        """Its threshold moves by a millionth: no spike can tell, the file does."""
        machine, wrong = self.network(0.5, 7.0), self.network(0.5, 7.0 + 1e-6)
        report = psu.verify(machine, psu.export(wrong, tmp_path / "net.onnx"), X)
        assert report.spike_flips == 0
        assert report.verdict.startswith("NOT EQUIVALENT: layer 'd' fires at >= 7.00000")


def test_a_knife_edge_says_what_it_cost():
    """One decision falls the other way; it carries the answer with it."""
    fire = ops.SpikingNeuron(o.Identity(), None, o.Sigmoid(), None, 1.0, ">=")
    machine = chain((2,), ops.Linear(np.array([[1.0, -1e-9]])), fire, ops.Linear(np.array([[2.0], [-1.0]]), [0.0, 1.5]))
    x = np.ones((1, 3, 2), np.float32)
    exact, single = machine.trace(x.astype(np.float64)), machine.trace(x)
    report = psu.EquivalenceReport((compare(machine, x, ("exact", exact), ("single", single)),))
    assert report.ok
    assert report.answers == (3, 3)
    assert report.verdict.endswith("; outputs differ by up to 2, 3 of 3 answers of the readout changed")


@pytest.mark.full
def test_the_potential_of_a_neuron_that_fires_at_random_has_a_bound_of_its_own():
    """Its margin is flatter than V by four: what rounds V is judged by V."""
    for seed in range(tries(12)):
        torch.manual_seed(seed)
        norm = nn.BatchNorm1d(64)
        norm.running_mean.copy_(torch.randn(64) * 1e4)
        norm.running_var.copy_(torch.rand(64) * 0.5 + 0.01)
        model = psu.SpikingSequential(nn.Linear(4, 64), norm, psu.SPSN(seed=1)).eval()
        report = psu.verify(model, psu.to_state_machine(model, (4,)), torch.randn(4, 8, 4) * 30)
        assert not report.comparisons[0].failures, (seed, report.verdict)


@pytest.mark.parametrize("what", ["another layer", "V of another shape", "state of another shape"])
def test_a_trace_of_another_network_is_a_failure_and_no_crash(what):
    machine = chain((4,), ops.Linear(normal(6, 4)), neuron(o.Leak(0.5, 0.5)))
    good, bad = machine.trace(X), machine.trace(X)
    if what == "another layer":
        bad.spikes["ghost"] = bad.potential["ghost"] = bad.spikes["b"]
    elif what == "V of another shape":
        bad.potential["b"] = bad.potential["b"][..., :3]
    else:
        bad.state["b.V"] = bad.state["b.V"][:2]
    assert compare(machine, X, ("good", good), ("bad", bad)).failures
