"""Networks that look ahead answer late: module, machine and onnxruntime agree on what they say, and when."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.errors import HorizonError, UnsupportedModelError
from psu_deploy.machine import ops
from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.containers import SpikingSequential
from tests.helpers import Forward, check_capture, linear

T = 8


def joined(neuron, readout=lambda y: y):
    """Two branches that look 2 and 1 steps ahead, their product, and what follows."""
    torch.manual_seed(0)
    return Forward(
        lambda net, x: readout(net.head(net.neuron(net.norm(net.two(x) * net.one(x))))),
        two=TimeConv1d(3, 4, 4, lookahead=2),
        one=TimeConv1d(3, 4, 2, lookahead=1),
        norm=psu.Lift(nn.BatchNorm1d(4)),
        neuron=neuron,
        head=linear(4, 2),
    ).eval()


def inputs(steps=T, batch=3, features=3):
    return np.random.default_rng(0).normal(0.5, 3.0, (steps, batch, features)).astype(np.float32)


NEURONS = {
    "rpsu": lambda T: psu.RPSU(T),
    "lif": lambda T: psu.LIF(threshold=0.3),
    "spsn": lambda T: psu.SPSN(seed=3),
    "masked psn": lambda T: psu.MaskedPSN(T, max(1, T // 2)),
    "sliding psn": lambda T: psu.SlidingPSN(3),
}
each_neuron = pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS)
READOUTS = {"every step": lambda y: y, "mean": lambda y: y.mean(0), "sum": lambda y: y.sum(0), "last": lambda y: y[-1]}


@pytest.mark.full
@pytest.mark.rows(3)
@each_neuron
@pytest.mark.parametrize("steps", [1, 2, T, 63])
def test_module_machine_and_onnxruntime_agree(make, steps, tmp_path):
    model = joined(make(steps))
    machine = psu.to_state_machine(model, (3,))
    assert machine.latency == 2
    assert machine.horizon == (None if model.neuron.horizon is None else steps + 2)
    artifact = psu.export(machine, tmp_path / "net.onnx")
    assert (artifact.latency, artifact.horizon) == (2, machine.horizon)
    report = psu.verify(model, artifact, inputs(steps), allow_silent=True)
    assert report.ok, str(report)
    assert not report.spike_flips


@pytest.mark.full
@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
def test_by_hand(readout, tmp_path):
    """Two zero steps behind the sequence; the first two answers are not answers."""
    model, x = joined(psu.RPSU(T), readout), inputs()
    machine = psu.to_state_machine(model, (3,))
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    followed = np.concatenate([x, np.zeros((2, *x.shape[1:]), np.float32)])
    for run in (machine.run, runner.run):
        y = run(followed)
        assert not y[:2].any()
        answers = y[2:] if expected.ndim == 3 else y[-1]
        np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)


@each_neuron
def test_capture_in_float64(make):
    machine = check_capture(joined(make(T)), (3,), T=T)
    assert machine.latencies["one"] == machine.latencies["two"] == 2


@pytest.mark.full
def test_the_horizon_counts_the_wait(tmp_path):
    machine = psu.to_state_machine(joined(psu.RPSU(T)), (3,))
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"))
    for run in (machine.run, runner.run):
        assert len(run(inputs(T + 2))) == T + 2
        with pytest.raises(HorizonError, match=f"horizon is {T + 2}"):
            run(inputs(T + 3))


def test_branches_of_one_lag_need_no_wait():
    branches = {name: TimeConv1d(2, 2, 2, lookahead=1) for name in "abc"}
    model = Forward(lambda net, x: net.a(x) * net.b(x) * net.c(x), **branches)
    machine = psu.to_state_machine(model, (2,))
    assert not any(isinstance(node.layer, ops.Wait) for node in machine.nodes)
    assert machine.latency == 1


def test_a_fast_branch_waits_once_for_all_its_readers():
    model = Forward(lambda net, x: (net.look(x) + x) * (net.look(x) + x), look=TimeConv1d(2, 2, 3, lookahead=2))
    machine = check_capture(model, (2,))
    assert [node.inputs for node in machine.nodes if isinstance(node.layer, ops.Wait)] == [("x",)]


@pytest.mark.parametrize(
    "before", [nn.Linear(3, 3), psu.PSU(), TimeConv1d(3, 3, 2), TimeConv1d(3, 3, 2, lookahead=1), psu.LIF()]
)
def test_look_ahead_behind_another_layer_is_refused(before):
    model = SpikingSequential(before, TimeConv1d(3, 3, 3, lookahead=2), psu.PSU())
    with pytest.raises(UnsupportedModelError) as caught:
        psu.to_state_machine(model, (3,))
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind) == ("1", "TimeConv1d")
    assert "looks 2 step(s) ahead at the result of another layer" in problem.reason
    assert "look ahead at the input only" in problem.remedy


def test_a_causal_convolution_may_stand_anywhere():
    machine = check_capture(SpikingSequential(nn.Linear(3, 4), psu.PSU(), TimeConv1d(4, 2, 3), psu.LIF()), (3,))
    assert machine.latency == 0


@pytest.mark.full
@pytest.mark.parametrize("early", [psu.LIF(), psu.SPSN(seed=1), psu.PSU()], ids=["lif", "spsn", "psu"])
@pytest.mark.parametrize("drive", [0.0, 5.0])
def test_a_neuron_on_the_fast_branch(early, drive, tmp_path):
    """It goes on while the slow branch's last answers are awaited, and may fire then."""
    torch.manual_seed(0)
    look = TimeConv1d(3, 3, 3, lookahead=2)
    model = Forward(lambda net, x: net.early(net.fc(x)) * net.look(x), fc=linear(3, 3), early=early, look=look).eval()
    nn.init.constant_(model.fc.layer.bias, drive)
    report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(3,)), inputs())
    assert report.ok, str(report)


@pytest.mark.full
def test_a_neuron_with_a_horizon_on_the_fast_branch(tmp_path):
    """The module runs T steps, so its serial form must give T answers."""
    look = TimeConv1d(3, 3, 3, lookahead=2)
    model = Forward(lambda net, x: net.early(x) * net.look(x), early=psu.RPSU(T), look=look).eval()
    report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(3,)), inputs())
    assert report.ok, str(report)
