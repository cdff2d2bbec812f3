"""What a network does beside plain calls on tensors: it is seen all the same, or refused; it never is left out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.nn.neurons import LIF
from tests.helpers import Forward, check_capture

RARE = 50.0
"""Beyond every number of an example: what is decided by it is the same in all of them."""


@torch.jit.script
def rarely(x: torch.Tensor) -> torch.Tensor:
    return (x > 50.0).to(x.dtype)


def through_a_view(net, x):
    y = torch.zeros(x.shape, dtype=x.dtype)
    y.view(-1, 4).add_(x.reshape(-1, 4))
    return net.n(x + torch.gt(y, RARE))


def whole_rows(net, x):
    y = torch.zeros(x.shape, dtype=torch.long)
    for t in range(len(x)):
        y[t] = x[t]
    return net.n(y.to(x))


def changed(change):
    """A network that changes a tensor in place and reads it afterwards."""

    def forward(net, x):
        y = net.a(x)
        change(y)
        return net.n(y) if net.reads else y

    return forward


HIDDEN = {
    "TorchScript": (lambda net, x: net.n(x + rarely(x)), "out of sight"),
    "vmap": (lambda net, x: net.n(x + torch.vmap(lambda row: (row > RARE).to(row))(x)), "out of sight"),
    "parameter": (lambda net, x: net.n(x + torch.gt(nn.Parameter(x), RARE)), "out of sight"),
    "view": (through_a_view, "out of sight"),
    "whole rows": (whole_rows, "other numbers"),
    "whole numbers": (lambda net, x: net.n(x + F.relu(x - RARE).long()), "rounds|jumps"),
    "half": (lambda net, x: net.n(x + F.relu(x - RARE).half()), "rounds|jumps"),
    "dropout of zeros": (lambda net, x: net.n(x + F.dropout(F.relu(x - RARE), 0.5, True)), "eval mode"),
    "steps twice": (lambda net, x: net.n(torch.cat([x, x])), "longer|axis"),
    "one step kept": (lambda net, x: net.n(x)[-1:], "some of the steps"),
    "batch of one": (lambda net, x: x.squeeze() + net.n(x), "batch of one"),
}


def parts():
    torch.manual_seed(0)
    return {"a": nn.Linear(4, 4), "n": LIF()}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_is_refused(name):
    forward, reason = HIDDEN[name]
    with pytest.raises(UnsupportedModelError, match=reason):
        to_state_machine(Forward(forward, **parts()).double(), (4,))


CHANGES = {
    "data": lambda y: y.data.add_(1),
    "detached": lambda y: y.detach().mul_(2),
    "view": lambda y: y.view(-1).add_(1),
    "step": lambda y: y[-1].add_(1),
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_place_through_another_tensor_is_refused(name, reads):
    model = Forward(changed(CHANGES[name]), **parts())
    model.reads = reads
    with pytest.raises(UnsupportedModelError, match="in place"):
        to_state_machine(model, (4,))


def test_inference_mode_is_nothing_special():
    def forward(net, x):
        with torch.inference_mode():
            return net.n(net.a(x))

    check_capture(Forward(forward, **parts()), (4,))


class TestHooks:
    """They are part of the network: what they do is captured, or refused."""

    def captured(self, register):
        model = Forward(lambda net, x: net.n(net.a(x)), **parts())
        register(model.a)
        return check_capture(model, (4,))

    def test_a_hook_behind(self):
        machine = self.captured(lambda a: a.register_forward_hook(lambda m, args, y: y.clamp(-RARE, RARE)))
        assert [node.name for node in machine.nodes] == ["a", "clamp()", "n"]

    def test_a_hook_before(self):
        machine = self.captured(lambda a: a.register_forward_pre_hook(lambda m, args: (args[0] * 2,)))
        assert [node.name for node in machine.nodes] == ["mul()", "a", "n"]

    def test_another_forward(self):
        def register(a):
            a.forward = lambda x: F.linear(x, a.weight, a.bias).clamp(-RARE, RARE)

        assert [node.name for node in self.captured(register).nodes] == ["linear()", "clamp()", "n"]

    def test_a_decision(self):
        with pytest.raises(UnsupportedModelError, match="lt"):
            self.captured(lambda a: a.register_forward_hook(lambda m, args, y: y * (y < RARE)))
