"""Layers whose weight is made by a parametrization: converted as what they were, with the weight as it is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from psu_deploy import PSU, Lift, SpikingSequential, UnsupportedModelError
from psu_deploy.capture import to_state_machine
from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.quantisation import Int8Weight
from tests.helpers import check_capture

LAYERS = {
    "Linear": (lambda: nn.Linear(5, 4), (5,)),
    "Linear on (C, L)": (lambda: nn.Linear(5, 4), (3, 5)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 7)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 0), groups=2, bias=False), (4, 5, 4)),
}


def weight_of(machine):
    return next(node.layer.weight for node in machine.nodes if hasattr(node.layer, "weight"))


@pytest.mark.parametrize(("make", "features"), LAYERS.values(), ids=LAYERS)
def test_eight_bits(make, features):
    layer = make().double()
    W = layer.weight.detach().numpy().copy()
    parametrize.register_parametrization(layer, "weight", Int8Weight())
    machine = check_capture(SpikingSequential(layer, PSU(1.5, 0.3)), features)
    scale = np.abs(W).max(axis=tuple(range(1, W.ndim)), keepdims=True) / 127
    np.testing.assert_allclose(weight_of(machine), np.rint(W / scale) * scale, rtol=1e-14)


@pytest.mark.parametrize("wrap", [lambda layer: Lift(layer), lambda layer: Lift(nn.Sequential(layer, nn.ReLU()))])
def test_inside_a_container(wrap):
    layer = parametrize.register_parametrization(nn.Linear(5, 4), "weight", Int8Weight())
    check_capture(SpikingSequential(wrap(layer), PSU(1.5, 0.3)), (5,))


def test_directly_on_a_sequence():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = parametrize.register_parametrization(nn.Linear(5, 4), "weight", Int8Weight())
            self.neuron = PSU(1.5, 0.3)

        def forward(self, x):
            return self.neuron(self.layer(x))

    check_capture(Net(), (5,))


def test_along_time():
    module = TimeConv1d(5, 4, 3)
    parametrize.register_parametrization(module.conv, "weight", Int8Weight())
    check_capture(SpikingSequential(module, PSU(1.5, 0.3)), (5,))


def test_a_bias_and_somebody_else_s_weight():
    class Shifted(nn.Module):
        def forward(self, x):
            return x + 1

    layer = parametrizations.weight_norm(nn.Linear(5, 4))
    parametrize.register_parametrization(layer, "bias", Shifted())
    check_capture(SpikingSequential(layer, PSU(1.5, 0.3)), (5,))


def test_a_container_with_a_parametrization_is_looked_into():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.layer, self.neuron = nn.Linear(5, 4), PSU(1.5, 0.3)

        def forward(self, x):
            return self.neuron(self.layer(x))

    check_capture(parametrize.register_parametrization(Scaled(), "weight", nn.ReLU()), (5,))


def test_a_weight_at_random_is_refused():
    """It is another one at every call, so the layer does not compute what its weight says."""

    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    layer = parametrize.register_parametrization(nn.Linear(5, 4), "weight", Noisy())
    with pytest.raises(UnsupportedModelError, match="does not compute what Linear computes"):
        to_state_machine(SpikingSequential(layer, PSU()), (5,))


def test_a_subclass_is_what_its_forward_does():
    class Own(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = parametrize.register_parametrization(Own(5, 4), "weight", Int8Weight())
    check_capture(SpikingSequential(layer, PSU()), (5,))


def test_time_is_not_taken_for_the_batch():
    layer = parametrize.register_parametrization(nn.BatchNorm1d(3), "weight", nn.Softplus())
    with pytest.raises(UnsupportedModelError, match="takes T for the batch"):
        to_state_machine(nn.Sequential(layer, PSU()), (3,))


def test_a_layer_of_spikingjelly():
    layers = pytest.importorskip("spikingjelly.activation_based.layer")
    layer = parametrize.register_parametrization(layers.Conv1d(3, 4, 3, step_mode="m"), "weight", Int8Weight())
    check_capture(nn.Sequential(layer, PSU(1.5, 0.3)), (3, 7))
