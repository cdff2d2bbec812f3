"""Neurons of SpikingJelly, all kinds: their own spikes and potentials, the machine's and the artifact's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import ops
from tests.capture.jelly import check_everywhere, check_machine, currents, fires, functional, layer, multi_step, neuron
from tests.helpers import Forward

INFINITE = float("inf")
RESETS = [None, 0.0, 0.3, -0.4]


def starting_from(potential, node):
    node.set_reset_value("v", potential)
    return node


def folded():
    """A norm of the membrane that has become a threshold of every channel."""
    node = neuron.MPBNLIFNode(out_features=6, v_reset=-0.2).eval()
    nn.init.normal_(node.vbn.running_mean, std=0.2)
    nn.init.uniform_(node.vbn.running_var, 0.5, 1.5)
    nn.init.uniform_(node.vbn.weight, 0.5, 1.0)
    node.re_parameterize_v_threshold()
    return node


def with_learned_thresholds():
    node = neuron.MPBNLIFNode(out_features=6, mpbn=False, learnable_vth=True)
    nn.init.uniform_(node.a, -0.5, 0.5)
    return node


NODES = {
    **{f"SimpleIFNode {reset}": (lambda reset=reset: neuron.SimpleIFNode(v_reset=reset)) for reset in RESETS},
    **{
        f"SimpleLIFNode {reset} {decays}": (
            lambda reset=reset, decays=decays: neuron.SimpleLIFNode(2.5, decays, v_threshold=0.8, v_reset=reset)
        )
        for reset in RESETS[1:]
        for decays in (True, False)
    },
    **{
        f"LIFNode from 0.7 {reset} {decays}": (
            lambda reset=reset, decays=decays: starting_from(0.7, neuron.LIFNode(3.0, decays, v_reset=reset))
        )
        for reset in RESETS
        for decays in (True, False)
    },
    "IFNode from -0.7": lambda: starting_from(-0.7, neuron.IFNode()),
    "HalfThresholdIFNode": lambda: neuron.HalfThresholdIFNode(0.7),
    **{f"CUBALIFNode {reset}": (lambda reset=reset: neuron.CUBALIFNode(v_reset=reset)) for reset in RESETS},
    "CUBALIFNode without leak": lambda: neuron.CUBALIFNode(v_decay=1.0, v_reset=0.3),
    "CUBALIFNode without memory": lambda: neuron.CUBALIFNode(0.0, 0.0),
    "NoisyCUBALIFNode": lambda: neuron.NoisyCUBALIFNode(6, is_training=False, T=9, v_reset=0.2),
    "SLTTLIFNode": lambda: neuron.SLTTLIFNode(v_reset=None),
    **{
        f"ActivationAwareIFNode {reset}": (lambda reset=reset: neuron.ActivationAwareIFNode(1.0, 0.3, v_reset=reset))
        for reset in RESETS
    },
    "DSRIFNode": lambda: neuron.DSRIFNode(9, v_threshold=1.5),
    "DSRIFNode that fires at its threshold": lambda: neuron.DSRIFNode(9, v_threshold=1.5, alpha=1.0),
    "DSRIFNode at its lower bound": lambda: neuron.DSRIFNode(9, v_threshold=1.5, v_threshold_lower_bound=1.5),
    "DSRLIFNode": lambda: neuron.DSRLIFNode(9, v_threshold=0.25, tau=0.2, delta_t=0.0625),
    "MPBNLIFNode": folded,
    "MPBNLIFNode without a norm": lambda: neuron.MPBNLIFNode(out_features=6, mpbn=False, v_reset=None),
    "MPBNLIFNode with learned thresholds": with_learned_thresholds,
}
"""Name -> neuron: beside IF, LIF, ParametricLIF, MaskedPSN and SlidingPSN."""


@pytest.mark.full
@pytest.mark.parametrize("name", NODES)
def test_not_one_spike_differs(name):
    torch.manual_seed(0)
    assert fires(check_machine(multi_step(nn.Linear(6, 6), NODES[name]()), (6,), 9, scale=4.0))


@pytest.mark.rows(3)
@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in NODES if not name.endswith(("0.0", "True"))])
def test_not_one_spike_differs_in_onnxruntime(name, tmp_path):
    torch.manual_seed(0)
    check_everywhere(multi_step(nn.Linear(6, 6), NODES[name](), layer.Linear(6, 3)), (6,), 9, tmp_path)


STEP_BY_STEP = {
    "OTTTLIFNode": neuron.OTTTLIFNode,
    "SLTTLIFNode": neuron.SLTTLIFNode,
    "CUBALIFNode": lambda: neuron.CUBALIFNode(v_reset=0.2),
    "HalfThresholdIFNode": neuron.HalfThresholdIFNode,
    "IFNode": neuron.IFNode,
    "SlidingPSN": lambda: neuron.SlidingPSN(3),
}


@pytest.mark.full
@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_neurons_of_one_step_in_a_loop_over_time(name):
    torch.manual_seed(0)
    net = layer.MultiStepContainer(nn.Linear(6, 6), STEP_BY_STEP[name](), nn.Linear(6, 5), neuron.IFNode())
    assert fires(check_machine(net, (6,), 9))


def test_a_neuron_that_starts_high_fires_though_nothing_comes_in():
    node = starting_from(1.5, neuron.IFNode(v_reset=None))
    machine = psu.to_state_machine(multi_step(node), (2,))
    assert machine.run(torch.zeros(3, 1, 2))[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_a_scaled_spike_is_scaled_behind_the_neuron():
    machine = psu.to_state_machine(multi_step(neuron.DSRIFNode(4, v_threshold=3.0, alpha=1.0)), (2,))
    assert machine.run(torch.full((3, 1, 2), 2.0))[:, 0, 0].tolist() == [0.0, 3.0, 3.0]


# -- membranes that are read out ----------------------------------------------------------------------------------


def outputs(net, features, T=9):
    """Of a net that was reset, and of its machine, in float64."""
    net = net.double().eval()
    machine = psu.to_state_machine(net, features)
    x = currents(T, features, dtype=torch.float64)
    functional.reset_net(net)
    with torch.no_grad():
        expected = net(x)
    functional.reset_net(net)
    found = machine.run(x)
    return (found if found.ndim == expected.ndim else found[-1]), expected


@pytest.mark.parametrize("decode", ["max-mem", "mean-mem", "last_mem"])
@pytest.mark.parametrize("build", [neuron.NonSpikingIFNode, lambda decode: neuron.NonSpikingLIFNode(2.5, decode)])
def test_neurons_that_never_spike(build, decode):
    net = multi_step(nn.Linear(6, 6), neuron.IFNode(), nn.Linear(6, 3), build(decode=decode))
    torch.testing.assert_close(*outputs(net, (6,)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("decode", ["max-mem", "mean-mem", "last-me"])
def test_a_noisy_neuron_that_never_spikes(decode):
    node = neuron.NoisyNonSpikingIFNode(3, is_training=False, T=9, decode=decode)
    net = multi_step(nn.Linear(6, 6), neuron.IFNode(), nn.Linear(6, 3), node)
    torch.testing.assert_close(*outputs(net, (6,)), rtol=1e-12, atol=1e-12)
    assert isinstance(psu.to_state_machine(net, (6,)).nodes[-1].layer, ops.Readout)


def test_potentials_that_a_network_stacks_itself():
    def forward(net, x_seq):
        return torch.stack(net.readout(net.fc(net.sn(x_seq))))

    readout = neuron.NonSpikingLIFNode(2.5)
    net = Forward(forward, fc=nn.Linear(6, 3), sn=neuron.IFNode(step_mode="m"), readout=readout)
    torch.testing.assert_close(*outputs(net, (6,)), rtol=1e-12, atol=1e-12)


def all_steps(net, x_seq):
    net.readout(net.fc(net.sn(x_seq)))
    return net.readout.v_seq


def mean_of_all(net, x_seq):
    net.readout(net.fc(net.sn(x_seq)))
    return net.readout.v_seq.mean(0)


def after_the_last(net, x_seq):
    net.readout(net.fc(net.sn(x_seq)))
    return net.readout.v


def loop_to_the_last(net, x_seq):
    for x in x_seq:
        net.readout(net.fc(net.sn(x)))
    return net.readout.v


def loop_with_a_sum(net, x_seq):
    total = 0
    for x in x_seq:
        net.readout(net.fc(net.sn(x)))
        total = total + net.readout.v
    return total / len(x_seq)


def loop_with_a_stack(net, x_seq):
    potentials = []
    for x in x_seq:
        net.readout(net.fc(net.sn(x)))
        potentials.append(net.readout.v)
    return torch.stack(potentials)


def loop_that_stores(net, x_seq):
    for x in x_seq:
        net.readout(net.fc(net.sn(x)))
    return net.readout.v_seq


READOUTS = (
    all_steps,
    mean_of_all,
    after_the_last,
    loop_to_the_last,
    loop_with_a_sum,
    loop_with_a_stack,
    loop_that_stores,
)
MEMBRANES = {
    "IF": lambda **options: neuron.IFNode(**options),
    "LIF": lambda **options: neuron.LIFNode(3.0, **options),
    "LIF, raw input": lambda **options: neuron.LIFNode(2.0, False, **options),
    "ParametricLIF": lambda **options: neuron.ParametricLIFNode(1.7, **options),
}


@pytest.mark.rows(4)
@pytest.mark.parametrize("forward", READOUTS, ids=lambda forward: forward.__name__)
@pytest.mark.parametrize("v_reset", [0.0, 0.3])
@pytest.mark.parametrize("kind", MEMBRANES)
def test_the_membrane_of_a_neuron_that_never_fires(forward, v_reset, kind):
    torch.manual_seed(0)
    stored = forward in (all_steps, mean_of_all, loop_that_stores)
    readout = MEMBRANES[kind](v_threshold=INFINITE, v_reset=v_reset, store_v_seq=stored)
    net = Forward(forward, sn=neuron.LIFNode(), fc=nn.Linear(6, 3), readout=readout)
    functional.set_step_mode(net, "s" if "loop" in forward.__name__ else "m")
    torch.testing.assert_close(*outputs(net, (6,)), rtol=1e-12, atol=1e-12)
    assert readout.store_v_seq is stored


@pytest.mark.full
@pytest.mark.parametrize("forward", [mean_of_all, loop_to_the_last], ids=lambda forward: forward.__name__)
def test_the_membrane_of_a_neuron_that_never_fires_in_onnxruntime(forward, tmp_path):
    readout = neuron.LIFNode(3.0, v_threshold=INFINITE, v_reset=0.3, store_v_seq=forward is mean_of_all)
    net = Forward(forward, sn=neuron.LIFNode(), fc=nn.Linear(6, 3), readout=readout)
    functional.set_step_mode(net, "s" if "loop" in forward.__name__ else "m")
    check_everywhere(net, (6,), 9, tmp_path)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_membrane_goes_on_in_a_second_call(mode):
    def forward(net, x_seq):
        for x in x_seq if mode == "s" else [x_seq]:
            net.readout(net.fc(x))
            net.readout(net.fc(x))
        return net.readout.v

    readout = neuron.LIFNode(3.0, v_threshold=INFINITE, store_v_seq=True)
    net = Forward(forward, fc=nn.Linear(6, 3), readout=readout)
    functional.set_step_mode(net, mode)
    with pytest.raises(psu.UnsupportedModelError, match="goes on from the membrane of an earlier call"):
        psu.to_state_machine(net, (6,))
