"""Machine time and network time: what is late is compared with the step it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.verify import certify
from psu_deploy.verify.alignment import aligned_run, drained, in_machine_time
from tests.zoo import MACHINES, NEURONS, inputs, normal

LOOK = ops.TimeConv(normal(3, 3, 3), None, 1, lookahead=2)


def two_neurons():
    """One in time, one late by two."""
    nodes = (
        Node("early", NEURONS["lif"], ("x",)),
        Node("look", LOOK, ("x",)),
        Node("late", NEURONS["psu"], ("look",)),
        Node("wait", ops.Wait(2), ("early",)),
        Node("sum", ops.Add(), ("late", "wait")),
    )
    return StateMachine(nodes, (3,))


@pytest.mark.full
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(("machine", "value"), [(two_neurons(), 0), (MACHINES["an image, late"], 1)])
def test_drained(kind, machine, value):
    """Silence follows a sequence; an image goes on being shown."""
    x = kind(np.ones((2, 5, 3), np.float32))
    longer = drained(machine, x)
    assert type(longer) is type(x)
    assert longer.dtype == x.dtype
    np.testing.assert_array_equal(longer[:2], x)
    np.testing.assert_array_equal(longer[2:], np.full((machine.latency, 5, 3), value))
    assert drained(MACHINES["hold"], x) is x


def test_aligned_rows_are_those_of_the_parallel_network():
    """By hand: the early neuron alone, and the late one alone on the convolution two steps further on."""
    machine, x = two_neurons(), inputs(two_neurons(), 9, 2).astype(np.float64)
    trace = aligned_run(machine, machine.trace, x)
    early = StateMachine((Node("early", NEURONS["lif"], ("x",)),), (3,)).run(x)
    looked = np.zeros_like(x)
    for t, lag in np.ndindex(9, 3):
        if t + lag < 11 and 0 <= t + lag < 9:
            looked[t] += x[t + lag] @ LOOK.weight[:, :, lag].T
    late = StateMachine((Node("late", NEURONS["psu"], ("x",)),), (3,)).run(looked)
    np.testing.assert_array_equal(trace.spikes["early"], early)
    np.testing.assert_array_equal(trace.spikes["late"], late)
    np.testing.assert_array_equal(trace.output, early + late)


def test_spikes_in_machine_time_are_late():
    spikes = {name: torch.ones(4, 1, 3) for name in ("early", "late")}
    found = in_machine_time(two_neurons(), spikes)
    assert found["late"][:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1]
    assert found["early"][:4, 0, 0].tolist() == [1, 1, 1, 1]
    assert len(found["early"]) == 6


def test_aligned_rows_hold_what_the_estimator_saw():
    """That of the late neuron is its potential, V where it has no estimate of its own."""
    machine, x = two_neurons(), inputs(two_neurons(), 9, 2)
    trace = aligned_run(machine, machine.trace, x)
    assert trace.estimate["late"].any()
    np.testing.assert_array_equal(trace.estimate["late"], trace.potential["late"])
    np.testing.assert_array_equal(trace.estimate["early"], np.zeros((9, 2, 3)))


@pytest.mark.parametrize("name", ["look-ahead", "static", "wait 3", "time conv in groups, looking ahead"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_late_trace_is_certified(name, precision):
    machine = MACHINES[name]
    x = inputs(machine, 4, 3).astype(precision)
    certificate = certify(machine, x, aligned_run(machine, machine.trace, x), precision=precision)
    assert certificate.ok, certificate.wrong
    assert certificate.disputed == ()


@pytest.mark.parametrize("layer", ["early", "late"])
def test_one_wrong_spike_is_found_where_it_is(layer):
    machine, x = two_neurons(), inputs(two_neurons(), 7, 2)
    trace = aligned_run(machine, machine.trace, x)
    trace.spikes[layer] = trace.spikes[layer].copy()
    trace.spikes[layer][4, 1, 2] = 1 - trace.spikes[layer][4, 1, 2]
    certificate = certify(machine, x, trace)
    assert not certificate.ok
    assert (layer, 4, 1, (2,)) in {d[:4] for d in certificate.disputed}


def test_what_a_neuron_emits_after_the_sequence_is_not_held_against_it():
    """Zeros do not keep a biased neuron silent; its state goes on while the late answers are awaited."""
    always = ops.ChannelAffine(np.zeros(3), np.full(3, 5.0))
    early, *others = two_neurons().nodes
    nodes = (Node("drive", always, ("x",)), Node("early", early.layer, ("drive",)), *others)
    machine = StateMachine(nodes, (3,))
    x = inputs(machine, 5, 2)
    certificate = certify(machine, x, aligned_run(machine, machine.trace, x))
    assert certificate.ok, certificate.wrong


def test_look_ahead_at_spikes_is_refused(tmp_path):
    """A neuron that fires on its own does so after the end, where no aligned trace tells: it looked like an error."""
    nodes = (
        Node("spikes", NEURONS["sliding"], ("x",)),
        Node("moved", ops.Permute((0,)), ("spikes",)),
        Node("look", LOOK, ("moved",)),
        Node("first", LOOK, ("x",)),
        Node("sum", ops.Add(), ("first", "look")),
    )
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.export(StateMachine(nodes, (3,)), tmp_path / "net.onnx")
    assert [problem.path for problem in caught.value.problems] == ["look"]
    assert "looks 2 step(s) ahead at what neurons emit" in str(caught.value)
    assert not list(tmp_path.iterdir())
