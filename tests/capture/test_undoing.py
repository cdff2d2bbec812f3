"""A network that is run again in full starts again: a run that does not count leaves nothing behind in it."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import to_state_machine
from psu_deploy.capture.undoing import undoing
from psu_deploy.errors import UnsupportedModelError
from tests.helpers import Forward, check_capture

KEPT = {
    "a number": lambda: 0,
    "a buffer": lambda: nn.Buffer(torch.zeros(())),
    "a tensor": lambda: torch.zeros(()),
    "a list": list,
    "a dictionary": dict,
    "a deque": deque,
}


def once_more(net):
    """How often it has been called, wherever it counts."""
    seen = net.seen
    if isinstance(seen, dict):
        seen[len(seen)] = None
    elif isinstance(seen, list | deque):
        seen.append(None)
    elif isinstance(seen, torch.Tensor):
        seen += 1
    else:
        net.seen += 1
    return len(seen) if hasattr(seen, "append") or isinstance(seen, dict) else int(net.seen)


class Counting(nn.Module):
    """Gives something else from its third call on."""

    def __init__(self, seen):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 4), seen

    def forward(self, x):
        return self.layer(x) * (1 if once_more(self) < 3 else 2)


@pytest.mark.rows(len(KEPT))
@pytest.mark.parametrize("name", KEPT)
def test_a_network_that_counts_its_calls_is_refused(name):
    """Three runs find out; the runs after them all give the same."""
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match="is another layer for another input"):
        to_state_machine(psu.SpikingSequential(Counting(KEPT[name]()), psu.PSU()), (4,))


@pytest.mark.parametrize("steps", [0, 8])
def test_a_network_that_keeps_its_last_result(steps):
    """It looks at it if it fits, which it does where a run was broken off and begins again, short or long."""

    def forward(net, x):
        y = net.a(x)
        y = y if net.kept is None or net.kept.shape != y.shape else y + net.kept
        net.kept = y
        y = net.b(y)
        y = y.view(len(x), -1) if len(x) > steps else y.reshape(len(x), -1)  # no view of one sample that stands for all
        return net.n(y.view(*x.shape[:2], -1))

    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "n": psu.PSU(threshold=0.1)}
    model = Forward(forward, **parts)
    model.kept = None
    machine = to_state_machine(model, (4,))
    model.kept = None
    x = torch.randn(6, 2, 4)
    assert torch.equal(machine.run(x), model(x).detach())


def test_all_is_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    model.one, model.several, model.numbers = 1, [1, {2}], torch.zeros(2)
    several, numbers, weight = model.several, model.numbers, model[1].weight
    undo = undoing(model)
    model.one, model.another = 2, 3
    model.several.append(4)
    model.several = []
    model.numbers += 1
    model.numbers = torch.ones(5)
    model[0].running_mean += 1
    model.new = nn.Linear(1, 1)
    model.register_forward_hook(print)
    undo()
    assert (model.one, model.several, several) == (1, [1, {2}], [1, {2}])
    assert model.several is several
    assert model.numbers is numbers
    assert not numbers.any()
    assert not model[0].running_mean.any()
    assert model[1].weight is weight
    assert not hasattr(model, "another")
    assert not hasattr(model, "new")
    assert not model._forward_hooks


def test_a_layer_that_is_still_to_be_made_stays_made():
    parts = {"a": nn.LazyLinear(4), "f": nn.ReLU(inplace=True), "n": psu.PSU(threshold=0.1)}
    check_capture(Forward(lambda net, x: net.n(net.f(net.a(x))), **parts), (4,))
    assert parts["a"].in_features == 4
