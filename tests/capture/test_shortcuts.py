"""What a capture leaves out, because it is known, and what it never leaves out."""

from __future__ import annotations

import gc
import weakref
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

import psu_deploy as psu
from psu_deploy.capture import to_state_machine, trace, trees
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.machine import ops
from tests.helpers import Forward, check_capture


@pytest.fixture
def samples(monkeypatch):
    """Samples that every convolution has computed."""
    seen = []
    original = nn.functional.conv2d

    def counting(x, *args, **kwargs):
        seen.append(len(x))
        return original(x, *args, **kwargs)

    monkeypatch.setattr("torch.nn.modules.conv.F.conv2d", counting)
    return seen


def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(2, 4, 3, padding=1)


def test_a_layer_of_torchs_is_computed_for_all_samples_once(samples):
    """One sample of the first run, T B = 10 of the second, one of the longest; and T of one sample alone."""
    to_state_machine(psu.SpikingSequential(convolution(), psu.PSU()), (2, 5, 5))
    assert samples == [1, 10, 1, 5]


def test_a_layer_with_a_hook_is_computed_in_full(samples):
    layer = convolution()
    layer.register_forward_hook(lambda module, args, y: None)
    to_state_machine(psu.SpikingSequential(layer, psu.PSU()), (2, 5, 5))
    assert {12, 10, 37 * 4} <= set(samples)


SEEN = {
    "in place": lambda net, x: net.n(net.a(x).add_(net.b(x))),
    "in place, a module": lambda net, x: net.n(net.f(net.a(x))),
    "memory": lambda net, x: net.n(net.a(x) if net.a(x).is_contiguous() else net.b(x)),
    "strides": lambda net, x: net.n(net.a(x) if net.a(x).stride()[0] else net.b(x)),
    "view": lambda net, x: net.n(net.a(x).view(len(x), -1).view(*x.shape[:2], -1)),
}
"""Networks that would be others if one sample stood for all."""


@pytest.mark.parametrize("name", SEEN)
def test_a_network_that_sees_how_its_tensors_lie_in_memory(name):
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "f": nn.ReLU(inplace=True), "n": psu.PSU(threshold=0.1)}
    machine = check_capture(Forward(SEEN[name], **parts), (4,))
    used = [node.layer for node in machine.nodes if isinstance(node.layer, ops.Linear)]
    assert (used[0].weight == parts["a"].weight.detach().numpy()).all()


def test_a_network_that_sees_it_on_many_steps_only():
    def forward(net, x):
        y = net.a(x)
        return net.n(y.add_(1) if len(x) > 8 else y)

    with pytest.raises(UnsupportedModelError, match="for another input"):
        to_state_machine(Forward(forward, a=nn.Linear(4, 4), n=psu.PSU()), (4,))


class First(nn.Module):
    """Gives every sample the result of the first."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x)[:1].expand_as(x)


@pytest.mark.parametrize("picture", [False, True])
def test_a_module_that_mixes_samples_is_held_against_its_converter(picture):
    def forward(net, x):
        if not picture:
            return net.n(net.m(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        return net.n(net.m(x)[None].repeat(5, 1, 1)) if x.ndim == 2 else net.fail

    model = Forward(forward, m=First(), n=psu.PSU())
    converters = {First: lambda module, features: ops.Linear(module.layer.weight.detach().double().numpy())}
    model.m.layer.bias.data.zero_()
    with pytest.raises(UnsupportedModelError, match="does not compute what"):
        to_state_machine(model, (4,), converters=converters)


def test_the_spikes_of_a_neuron_of_ours_are_not_computed(monkeypatch):
    widths = []
    original = psu.PSU.forward
    monkeypatch.setattr(psu.PSU, "forward", lambda self, x: (widths.append(x[0, 0].numel()), original(self, x))[1])
    machine = to_state_machine(psu.SpikingSequential(nn.Linear(3, 1000), psu.PSU()), (3,))
    assert machine.shapes[machine.output] == (1000,)
    assert sorted(widths)[-2:] == [16, 1000]  # in full by the batch of one, which nobody watches


def test_a_neuron_that_a_converter_takes_for_something_else_is_computed():
    """One that always fires is a constant, to somebody who says so."""

    def ones(module, features):
        return ops.Filter(ops.Leak(0.0, 0.0)), ops.ChannelAffine(np.zeros(3), np.ones(3))

    model = psu.SpikingSequential(nn.Linear(3, 3), psu.PSU(threshold=-1e6))
    machine = to_state_machine(model, (3,), converters={psu.PSU: ones})
    assert machine.spiking == ()
    assert (machine.run(np.zeros((2, 1, 3))) == 1).all()


def test_a_run_goes_when_the_next_begins(monkeypatch):
    """Its tensors are many; no circle holds them until the collector comes."""
    kept = []
    original = trace._record
    monkeypatch.setattr(trace, "_record", lambda *a: [made := original(*a), kept.extend(map(weakref.ref, made[:2]))][0])
    gc.disable()
    try:
        machine = to_state_machine(psu.SpikingSequential(nn.Linear(3, 3), nn.BatchNorm1d(3), psu.PSU()), (3,))
        machine.run(torch.zeros(2, 1, 3))
        kept.append(weakref.ref(machine))
        del machine
        assert len(kept) == 7
        assert [one() for one in kept] == [None] * 7
    finally:
        gc.enable()


Pair = namedtuple("Pair", "first second")

TREES = [(), 1, (1, [2.0, None, {"a": "b"}]), Pair([1], {"x": (2,)}), {"k": Pair(1, 2), "l": [slice(1), torch.float32]}]


@pytest.mark.parametrize("tree", TREES)
def test_trees_are_those_of_torch(tree):
    assert trees.leaves(tree) == tree_leaves(tree)
    mapped = trees.mapped(repr, tree)
    assert mapped == tree_map(repr, tree)
    assert type(mapped) is type(tree_map(repr, tree))
