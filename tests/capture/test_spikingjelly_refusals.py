"""What of SpikingJelly has no serial form is refused by name; and who does not use SpikingJelly never loads it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import ops
from tests.helpers import Forward


def spikingjelly(room):
    """A module of SpikingJelly; without SpikingJelly its tests are skipped, unless it is said to be there."""
    name = f"spikingjelly.activation_based.{room}"
    required = "spikingjelly" in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(",")
    return importlib.import_module(name) if required else pytest.importorskip(name)


functional, layer, neuron, surrogate = map(spikingjelly, ("functional", "layer", "neuron", "surrogate"))

SET_STEP_MODE = 'spikingjelly.activation_based.functional.set_step_mode(net, "m")'


def multi_step(*layers):
    net = nn.Sequential(*layers)
    functional.set_step_mode(net, "m")
    return net


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
    ("norm", "mode", "applied_to"),
    [
        (layer.BatchNorm1d(3), "s", "(T, B, ...)"),
        (layer.Flatten(), "s", "(T, B, ...)"),
        (layer.Flatten(step_mode="m"), "m", "(T*B, ...)"),
    ],
    ids=["norm", "flatten", "flatten a step"],
)
def test_layers_of_the_other_step_mode(norm, mode, applied_to):
    def forward(net, x_seq):
        return net.sn(net.norm(x_seq) if mode == "s" else net.norm(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2]))

    net = Forward(forward, norm=norm, sn=neuron.IFNode(step_mode="m"))
    with pytest.raises(psu.UnsupportedModelError) as caught:
        psu.to_state_machine(net, (3,) if isinstance(norm, layer.BatchNorm1d) else (3, 4))
    found = caught.value.problems[0]
    assert (found.path, found.reason) == ("norm", f'step_mode="{mode}" is applied to {applied_to}')
    assert found.remedy == f"call {SET_STEP_MODE}"


@pytest.mark.parametrize(
    "container",
    [
        lambda *layers: layer.MultiStepContainer(*layers),
        lambda *layers: layer.StepModeContainer(True, "m", *layers),
    ],
    ids=["MultiStepContainer", "StepModeContainer"],
)
def test_containers_that_loop_over_time(container):
    path, kind, reason, remedy = problem(nn.Sequential(container(nn.Linear(5, 3), neuron.IFNode())), (5,))
    assert (path, kind) == ("0", type(container()).__name__)
    assert reason == "runs its modules step by step"
    assert "SeqToANNContainer" in remedy
    assert SET_STEP_MODE in remedy


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


@pytest.mark.parametrize(
    ("node", "potential"),
    [
        (starting_from(0.5), "0"),
        (starting_from(0.5, v_reset=None), "0"),
        (starting_from(0.5, v_reset=0.25), "0.25"),
        (changed(neuron.LIFNode(), v_reset=-0.5), "-0.5"),  # it still starts from the 0 it was made with
        (starting_from(torch.tensor([0.0, 0.1, 0.0])), "0"),
    ],
    ids=["hard", "soft", "reset", "reset changed", "per neuron"],
)
def test_neurons_that_start_elsewhere(node, potential):
    _, kind, reason, remedy = problem(multi_step(nn.Linear(5, 3), node), (5,))
    assert kind == "LIFNode"
    assert reason == f"v starts from another potential than the reset potential {potential}"
    assert remedy == f'call neuron.set_reset_value("v", {potential})'


def test_neurons_told_to_start_where_they_reset():
    node = changed(neuron.LIFNode(), v_reset=-0.5)
    node.set_reset_value("v", -0.5)
    machine = psu.to_state_machine(multi_step(nn.Linear(5, 3), node), (5,))
    assert machine.nodes[-1].layer.threshold == 1.5


def test_numbers_per_neuron():
    node = changed(neuron.ParametricLIFNode(), w=nn.Parameter(torch.zeros(3)))
    _, _, reason, remedy = problem(multi_step(nn.Linear(5, 3), node), (5,))
    assert reason == "w has 3 numbers"
    assert remedy == "use one number for the layer"


class Fast(neuron.LIFNode):
    """Somebody's own neuron, which may compute anything."""

    def __init__(self):
        super().__init__(tau=1.5)


UNKNOWN = [
    lambda: neuron.KLIFNode(),
    lambda: neuron.QIFNode(),
    lambda: neuron.HalfThresholdIFNode(),
    lambda: Fast(),
    lambda: layer.WSLinear(3, 3),
    lambda: layer.SynapseFilter(),
]


@pytest.mark.parametrize("build", UNKNOWN, ids=lambda build: type(build()).__name__)
def test_what_nobody_knows_how_to_convert(build):
    path, kind, reason, remedy = problem(multi_step(nn.Linear(5, 3), build()), (5,))
    assert (path, kind) == ("1", type(build()).__name__)
    assert reason == "no converter for this type"
    assert "converters={type: function}" in remedy


def test_a_converter_of_ones_own():
    net = multi_step(nn.Linear(5, 3), Fast())
    converters = {Fast: lambda node, features: ops.LIFNeuron(node.tau, True, 1.0, "hard", ">=")}
    machine = psu.to_state_machine(net, (5,), converters=converters)
    x = 3 * torch.randn(33, 2, 5)
    assert torch.equal(machine.run(x), net(x))


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
