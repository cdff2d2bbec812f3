"""What of SpikingJelly has no serial form is refused by name; and who does not use SpikingJelly never loads it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import ops
from tests.capture.jelly import layer, multi_step, neuron, surrogate
from tests.helpers import Forward

SET_STEP_MODE = 'spikingjelly.activation_based.functional.set_step_mode(net, "m")'


def problem(net, features):
    """The one problem of a net: path, type, reason and remedy."""
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, features)
    (found,) = caught.value.problems
    return found.path, found.kind, found.reason, found.remedy


def changed(node, **attributes):
    for name, value in attributes.items():
        setattr(node, name, value)
    return node


@pytest.mark.parametrize("T", [1, 4, 9])
def test_psn(T):
    path, kind, reason, remedy = problem(multi_step(layer.Linear(5, 3), neuron.PSN(T)), (5,))
    assert (path, kind) == ("1", "PSN")
    assert "not causal: step t needs inputs of later steps" in reason
    assert remedy == "train with MaskedPSN or SlidingPSN"


@pytest.mark.parametrize("lambda_", [0.0, 0.99])
def test_masked_psn_that_still_looks_ahead(lambda_):
    net = multi_step(layer.Linear(5, 3), neuron.MaskedPSN(2, 9, lambda_))
    path, kind, reason, remedy = problem(net, (5,))
    assert (path, kind) == ("1", "MaskedPSN")
    assert reason == f"lambda_ = {lambda_:g} < 1: rows still look ahead"
    assert "lambda_ = 1.0" in remedy


@pytest.mark.parametrize(
    ("norm", "features"),
    [
        (lambda T: layer.TemporalEffectiveBatchNorm1d(T, 3), (3,)),
        (lambda T: layer.TemporalEffectiveBatchNorm2d(T, 3), (3, 4, 4)),
        (lambda T: layer.BatchNormThroughTime1d(T, 3), (3,)),
        (lambda T: layer.BatchNormThroughTime2d(T, 3), (3, 4, 4)),
    ],
    ids=["TEBN1d", "TEBN2d", "BNTT1d", "BNTT2d"],
)
@pytest.mark.parametrize("T", [2, 4, 9])
def test_numbers_of_every_step_in_a_batch_norm(norm, features, T):
    _, kind, reason, remedy = problem(multi_step(norm(T), neuron.IFNode()), features)
    assert kind == type(norm(T)).__name__
    assert reason == "scales every time step differently"
    assert "ThresholdDependentBatchNorm" in remedy


@pytest.mark.parametrize(
    "node",
    [
        neuron.IFNode(),
        neuron.LIFNode(),
        neuron.ParametricLIFNode(),
        neuron.SlidingPSN(2),
        neuron.MaskedPSN(2, 7, 1.0),
    ],
    ids=lambda node: type(node).__name__,
)
@pytest.mark.parametrize("inside", [None, layer.SeqToANNContainer], ids=["bare", "in a container"])
def test_neurons_of_one_step(node, inside):
    net = nn.Sequential(nn.Linear(5, 3), inside(node) if inside else node)
    path, kind, reason, remedy = problem(net, (5,))
    assert (path, kind) == ("1.0" if inside else "1", type(node).__name__)
    assert reason == 'step_mode="s" sees one step at a time'
    assert remedy == f"call {SET_STEP_MODE}"


@pytest.mark.parametrize(
    ("norm", "path", "mode", "applied_to"),
    [
        (layer.BatchNorm1d(3), "norm", "s", "(T, B, ...)"),
        (layer.Flatten(), "sn", "m", "(T, B*...)"),
    ],
    ids=["norm", "flatten"],
)
def test_layers_of_the_other_step_mode(norm, path, mode, applied_to):
    net = Forward(lambda net, x_seq: net.sn(net.norm(x_seq)), norm=norm, sn=neuron.IFNode(step_mode="m"))
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, (3,) if isinstance(norm, layer.BatchNorm1d) else (3, 4))
    found = caught.value.problems[0]
    assert (found.path, found.reason) == (path, f'step_mode="{mode}" is applied to {applied_to}')
    assert found.remedy == f"call {SET_STEP_MODE}"


@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "ParametricLIFNode", "SlidingPSN", "MaskedPSN"])
def test_surrogates_that_do_not_spike(kind):
    options = {"k": 2} if "PSN" in kind else {}
    options |= {"T": 7, "lambda_init": 1.0} if kind == "MaskedPSN" else {}
    node = getattr(neuron, kind)(**options, surrogate_function=surrogate.ATan(spiking=False))
    _, name, reason, remedy = problem(multi_step(nn.Linear(5, 3), node), (5,))
    assert name == kind
    assert reason == "surrogate_function.spiking=False: it emits no spikes"
    assert remedy == "train with spiking=True"


def starting_from(value, **options):
    node = neuron.LIFNode(**options)
    node.set_reset_value("v", value)
    return node


def test_neurons_that_start_from_a_potential_each():
    node = starting_from(torch.tensor([0.0, 0.1, 0.0]))
    _, kind, reason, remedy = problem(multi_step(nn.Linear(5, 3), node), (5,))
    assert kind == "LIFNode"
    assert reason == "v starts from a tensor of potentials"
    assert remedy == 'call neuron.set_reset_value("v", one number)'


def test_neurons_told_to_start_where_they_reset():
    node = changed(neuron.LIFNode(), v_reset=-0.5)
    node.set_reset_value("v", -0.5)
    machine = psu.to_state_machine(multi_step(nn.Linear(5, 3), node), (5,))
    assert machine.nodes[-1].layer.threshold == 1.5
    assert len(machine.nodes) == 2


def test_numbers_per_neuron():
    node = changed(neuron.ParametricLIFNode(), w=nn.Parameter(torch.zeros(3)))
    _, _, reason, remedy = problem(multi_step(nn.Linear(5, 3), node), (5,))
    assert reason == "w has 3 numbers"
    assert remedy == "use one number for the layer"


class Fast(neuron.LIFNode):
    """Somebody's own neuron, which may compute anything."""

    def __init__(self):
        super().__init__(tau=1.5)


def test_what_nobody_knows_how_to_convert():
    path, kind, reason, remedy = problem(multi_step(nn.Linear(5, 3), Fast()), (5,))
    assert (path, kind) == ("1", "Fast")
    assert reason == "no converter for this type"
    assert "converters={type: function}" in remedy


def few_spikes():
    return neuron.FewSpikeNode(neuron.FewSpikeTable([1.0, 0.5], [1.0, 0.5], [1.0, 0.5]))


def folded(**options):
    node = neuron.MPBNLIFNode(out_features=3, **{"v_reset": 0.0} | options).eval()
    node.re_parameterize_v_threshold()
    return node


REASONS = [
    (neuron.QIFNode, "quadratic in V"),
    (neuron.EIFNode, "exponential in V"),
    (neuron.IzhikevichNode, "quadratic in V, beside a second state that adapts"),
    (neuron.KLIFNode, "cut off at 0"),
    (neuron.RAFNode, "oscillates"),
    (neuron.ComplementaryLIFNode, "a second memory"),
    (lambda: neuron.GatedLIFNode(4), "mixed anew by every spike"),
    (lambda: neuron.LIAFNode(nn.ReLU(), False), "an activation of its membrane instead of spikes"),
    (neuron.ILIFNode, "emits counts"),
    (neuron.TernaryIFNode, "spikes of -1"),
    (neuron.TernaryLIFNode, "spikes of -1"),
    (lambda: neuron.STBIFNode(1.0, 4), "spikes of -1"),
    (few_spikes, "its first step needs the last input"),
    (lambda: neuron.ILCIFNode(1, 3), "feeds its spikes back"),
    (lambda: neuron.NoisyCUBALIFNode(3, T=4), "adds noise"),
    (lambda: neuron.NonSpikingLIFNode(decode="max-abs-mem"), "keeps two extremes"),
    (lambda: neuron.MPBNLIFNode(out_features=3), "normalises its membrane in every step"),
    (lambda: folded(v_reset=None), "reset by another potential than it fires at"),
    (lambda: folded(v_reset=1.5), "fires below its reset potential"),
    (lambda: neuron.CUBALIFNode(v_decay=1.5), "v_decay = 1.5 is no leak"),
    (lambda: neuron.LIFNode(v_threshold=float("inf"), v_reset=None), "0 * inf"),
    (lambda: starting_from(0.5, v_threshold=float("inf")), "starts from another potential than it leaks to"),
    (layer.SynapseFilter, "leaks only where no spike arrives"),
    (lambda: layer.LinearRecurrentContainer(nn.Identity(), 3, 3), "feeds its output back"),
    (lambda: layer.ElementWiseRecurrentContainer(nn.Identity(), torch.add), "feeds its output back"),
    (lambda: layer.DropConnectLinear(3, 3), "draws its weights at random"),
    (lambda: layer.SpikeCountToBinary(2), "turns one step into several"),
    (lambda: layer.TemporalBinSum(2), "sums up several steps"),
    (lambda: layer.TemporalWiseAttention(4, 2, 2), "attends over time"),
]


@pytest.mark.parametrize(("build", "said"), REASONS)
def test_what_has_no_serial_form_is_refused_for_what_it_does(build, said):
    module = build()
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(multi_step(nn.Linear(5, 3), module), (5,))
    found = caught.value.problems[0]
    assert (found.path, found.kind) == ("1", type(module).__name__)
    assert said in found.reason
    assert found.remedy


def test_a_membrane_of_a_neuron_that_fires_is_not_there_to_be_read():
    def forward(net, x_seq):
        return net.sn(net.fc(x_seq)) + net.sn.v_seq

    net = Forward(forward, fc=nn.Linear(5, 3), sn=neuron.LIFNode(store_v_seq=True, step_mode="m"))
    with pytest.raises(psu.UnsupportedModelError):
        psu.to_state_machine(net, (5,))


def test_a_converter_of_ones_own():
    net = multi_step(nn.Linear(5, 3), Fast())
    converters = {Fast: lambda node, features: ops.LIFNeuron(node.tau, True, 1.0, "hard", ">=")}
    machine = psu.to_state_machine(net, (5,), converters=converters)
    x = 3 * torch.randn(33, 2, 5)
    assert torch.equal(machine.run(x), net(x))


def test_a_converter_of_ones_own_wins_over_a_refusal():
    net = multi_step(nn.Linear(5, 3), neuron.KLIFNode())
    converters = {neuron.KLIFNode: lambda node, features: ops.LIFNeuron(node.tau, True, 1.0, "hard", ">=")}
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, (5,), converters=converters)
    assert "fires differently from its equations" in str(caught.value)  # it was looked at, and does not fit


def test_everything_at_once():
    net = multi_step(layer.Linear(5, 3), neuron.PSN(7), layer.TemporalEffectiveBatchNorm1d(7, 3), neuron.KLIFNode())
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, (5,))
    assert [p.path for p in caught.value.problems] == ["1", "2", "3"]


_PLAIN = """
import sys
import torch
import psu_deploy as psu
assert not [name for name in sys.modules if name.partition(".")[0] == "spikingjelly"], "import psu_deploy"
net = psu.SpikingSequential(torch.nn.Linear(3, 3), psu.LIF(threshold=0.05))
machine = psu.to_state_machine(net, (3,))
assert psu.verify(net, machine, torch.randn(5, 2, 3)).ok
assert not [name for name in sys.modules if name.partition(".")[0] == "spikingjelly"], "capture"
"""


@pytest.mark.full
def test_who_does_not_use_it_never_loads_it():
    run = subprocess.run([sys.executable, "-c", _PLAIN], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
