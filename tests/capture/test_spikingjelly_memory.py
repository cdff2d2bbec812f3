"""A neuron of SpikingJelly keeps its membrane from call to call; who touches it in between is refused."""

from __future__ import annotations

import importlib
import os

import pytest
import torch

import psu_deploy as psu
from tests.helpers import Forward


def spikingjelly(room):
    """A module of SpikingJelly; without SpikingJelly its tests are skipped, unless it is said to be there."""
    name = f"spikingjelly.activation_based.{room}"
    required = "spikingjelly" in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(",")
    return importlib.import_module(name) if required else pytest.importorskip(name)


functional, neuron = map(spikingjelly, ("functional", "neuron"))


def decayed(net, t):
    net.n.v = net.n.v * 0.5


def decayed_in_place(net, t):
    if t:
        net.n.v.mul_(0.5)


def set_before(net, t):
    if not t:
        net.n.v = 0.5


TOUCHED = {
    "reset at every step": lambda net, t: functional.reset_net(net),
    "reset sometimes": lambda net, t: functional.reset_net(net) if t % 3 == 0 else None,
    "decayed": decayed,
    "decayed in place": decayed_in_place,
    "set before": set_before,
}


@pytest.mark.parametrize("name", TOUCHED)
def test_a_membrane_that_is_touched_between_two_steps_is_refused(name):
    def forward(net, x):
        functional.reset_net(net)
        return torch.stack([(TOUCHED[name](net, t), net.n(x_t))[1] for t, x_t in enumerate(x)])

    with pytest.raises(psu.UnsupportedModelError, match="in the middle of a sequence"):
        psu.to_state_machine(Forward(forward, n=neuron.IFNode()), (4,))


@pytest.mark.full
def test_a_reset_before_the_first_step_is_nothing_special():
    def forward(net, x):
        functional.reset_net(net)
        return torch.stack([net.n(x_t) for x_t in x])

    machine = psu.to_state_machine(Forward(forward, n=neuron.IFNode()), (4,))
    assert [node.name for node in machine.nodes] == ["n"]
