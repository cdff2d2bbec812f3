"""Containers over sequences: equal to a loop over the steps for whatever knows nothing of time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.nn.containers import Lift, Residual, SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSN, PSU

STATELESS = {
    "Linear": (nn.Linear(3, 4), (3,)),
    "Linear over the last axis": (nn.Linear(3, 4), (2, 3)),
    "Conv1d": (nn.Conv1d(3, 2, 3), (3, 8)),
    "Conv2d": (nn.Conv2d(3, 2, 3), (3, 5, 6)),
    "BatchNorm1d": (nn.BatchNorm1d(3), (3,)),
    "MaxPool2d": (nn.MaxPool2d(2), (3, 4, 6)),
    "Flatten": (nn.Flatten(), (3, 4)),
    "Sequential": (nn.Sequential(nn.Conv1d(3, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten()), (3, 8)),
}


def loop_over_steps(layer, x):
    return torch.stack([layer(x_t) for x_t in x])


@pytest.mark.parametrize("container", [Lift, SpikingSequential])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 4), (5, 1), (6, 2)])
@pytest.mark.parametrize(("layer", "features"), STATELESS.values(), ids=STATELESS)
def test_stateless_layers_see_every_step_alone(layer, features, T, B, container):
    layer = layer.double().eval()
    x = torch.randn(T, B, *features, dtype=torch.float64)
    expected = loop_over_steps(layer, x)
    got = container(layer)(x)
    assert got.shape == (T, B, *expected.shape[2:])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("container", [Lift, SpikingSequential])
def test_gradients(container):
    layer = nn.Linear(3, 4).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    container(layer)(x).square().sum().backward()
    lifted, lifted_weight = x.grad.clone(), layer.weight.grad.clone()
    x.grad = layer.weight.grad = None
    loop_over_steps(layer, x).square().sum().backward()
    torch.testing.assert_close(lifted, x.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lifted_weight, layer.weight.grad, rtol=1e-12, atol=1e-12)


def test_batch_norm_in_training_sees_all_steps_as_one_batch():
    norm, x = nn.BatchNorm1d(3).double(), torch.randn(5, 4, 3, dtype=torch.float64)
    y = SpikingSequential(norm)(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 1)), atol=1e-12, rtol=1e-12)


def test_neurons_work_along_time():
    a, n, b = nn.Linear(3, 4).double(), PSU(), nn.Linear(4, 2).double()
    x = 3 * torch.randn(6, 2, 3, dtype=torch.float64)
    expected = loop_over_steps(b, n(loop_over_steps(a, x)))
    torch.testing.assert_close(SpikingSequential(a, n, b)(x), expected, rtol=1e-12, atol=1e-12)
    assert len(expected.unique(dim=1)) > 1


class TestSpikingSequential:
    def test_is_a_list(self):
        layers = [nn.Linear(3, 4), PSU(), nn.Linear(4, 2)]
        net = SpikingSequential(*layers)
        assert len(net) == 3
        assert list(net) == layers
        assert [net[0], net[1], net[-1]] == [layers[0], layers[1], layers[2]]

    def test_parameters_are_named_as_in_torch(self):
        layers = [nn.Linear(3, 4), PSU(), nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))]
        assert SpikingSequential(*layers).state_dict().keys() == nn.Sequential(*layers).state_dict().keys()

    def test_a_layer_may_come_twice(self):
        neuron, fc = PSU(), nn.Linear(3, 3).double()
        x = 3 * torch.randn(6, 2, 3, dtype=torch.float64)
        net = SpikingSequential(fc, neuron, fc, neuron)
        assert len(list(net)) == len(net) == 4
        assert torch.equal(net(x), neuron(loop_over_steps(fc, neuron(loop_over_steps(fc, x)))))

    def test_empty_is_the_identity(self):
        x = torch.randn(3, 2, 4)
        assert SpikingSequential()(x) is x


class TestResidual:
    @pytest.mark.parametrize("features", [(4,), (4, 5)])
    def test_adds_the_input(self, features):
        body = nn.Linear(features[-1], features[-1]).double()
        x = torch.randn(5, 2, *features, dtype=torch.float64)
        torch.testing.assert_close(Residual(body, PSU())(x), x + PSU()(loop_over_steps(body, x)))

    @pytest.mark.parametrize("shortcut", [nn.Linear(3, 4), SpikingSequential(nn.Linear(3, 4), PSU())])
    def test_shortcut(self, shortcut):
        shortcut, body = shortcut.double(), nn.Linear(3, 4).double()
        x = 3 * torch.randn(5, 2, 3, dtype=torch.float64)
        skipped = shortcut(x) if isinstance(shortcut, SpikingSequential) else loop_over_steps(shortcut, x)
        torch.testing.assert_close(Residual(body, shortcut=shortcut)(x), skipped + loop_over_steps(body, x))

    def test_shortcut_is_part_of_the_model(self):
        names = [name for name, _ in Residual(nn.Linear(3, 4), shortcut=nn.Linear(3, 4, bias=False)).named_parameters()]
        assert names == ["body.0.weight", "body.0.bias", "shortcut.0.weight"]


class TestWhatWorksAlongTimeIsNotLifted:
    """It would take T*B for its steps."""

    @pytest.mark.parametrize("inside", [PSU(), IPSU(4), PSN(4), SpikingSequential(nn.ReLU()), Lift(nn.ReLU())])
    def test_lift(self, inside):
        with pytest.raises(InputError, match=r"holds a module that works along time \(itself\) and cannot be lifted"):
            Lift(inside)
        with pytest.raises(InputError, match=r"Sequential holds .* along time \(1\).*Use SpikingSequential instead"):
            Lift(nn.Sequential(nn.Linear(3, 3), inside))

    def test_hidden_deep_inside(self):
        block = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), PSU()))
        for make in (Lift, SpikingSequential, Residual):
            with pytest.raises(InputError, match=r"works along time \(1.1\) and cannot be lifted"):
                make(block)
        with pytest.raises(InputError, match=r"works along time \(1.1\)"):
            Residual(nn.Linear(3, 3), shortcut=block)
