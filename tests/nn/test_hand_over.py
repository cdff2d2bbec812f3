"""A membrane handed over through another one: against its recurrence, captured, bounded, refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.nn.along_time import HandOver
from psu_deploy.verify import certify
from tests.helpers import ROUNDING, Forward, check_capture, linear
from tests.verify.test_rounding import excess


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def handed_over(x, U, decay, theta):
    """One neuron and one step after the other, in Python's own floats."""
    V = np.array(x)
    for t, b, n in np.ndindex(V.shape):
        if t:
            projected = 2 * math.sin(theta * U[t - 1, b, n] * math.cos(theta * V[t - 1, b, n]))
            V[t, b, n] = x[t, b, n] + decay * projected
    return V


@pytest.mark.parametrize("T", [1, 2, 9])
@pytest.mark.parametrize(("decay", "theta"), [(0.4, math.pi / 4), (-1.5, 2.0), (0.0, 1.0)])
def test_its_recurrence(T, decay, theta):
    x, U = normal(T, 2, 3), normal(T, 2, 3, seed=1)
    found = HandOver(decay, theta)(torch.from_numpy(x), torch.from_numpy(U))
    np.testing.assert_allclose(found, handed_over(x, U, decay, theta), **ROUNDING)


def test_its_gradient_is_that_of_the_recurrence():
    inputs = [torch.from_numpy(normal(5, 2, 3, seed=seed)).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(HandOver(0.9, 1.3), inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_and_at_the_end(dtype):
    x, U = (torch.from_numpy(normal(6, 2, 3, seed=seed)).to(dtype) for seed in (0, 1))
    torch.testing.assert_close(HandOver()(x, U), HandOver()(x.float(), U.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": math.nan}, "decay must be finite, got nan"),
        ({"theta": math.inf}, "theta must be finite, got inf"),
        ({"theta": "pi"}, "theta"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(psu.InputError, match=message):
        HandOver(**arguments)


def test_refuses_a_membrane_of_another_shape():
    with pytest.raises(psu.InputError, match=r"must have one shape, got \(4, 1, 2\) and \(4, 1, 1\)"):
        HandOver()(torch.zeros(4, 1, 2), torch.zeros(4, 1, 1))


# -- in a network ------------------------------------------------------------------------------------------------------


def two_membranes(call):
    torch.manual_seed(0)
    parts = {"first": linear(3, 4), "second": linear(3, 4), "membrane": psu.Membrane(2.0), "hand_over": HandOver()}
    return Forward(call, **parts)


def in_order(net, x):
    return net.hand_over(net.second(x), net.membrane(net.first(x)))


def test_it_is_captured():
    machine = check_capture(two_membranes(in_order), (3,))
    assert machine.nodes[-1].inputs == ("second.layer", "membrane")
    assert machine.nodes[-1].layer.theta == math.pi / 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, x: n.hand_over(membrane=n.first(x), current=n.second(x)), "needs one tensor in and one out"),
        (lambda n, x: n.hand_over(n.second(x).transpose(0, 1), n.first(x).transpose(0, 1)), "works along time"),
    ],
)
def test_where_it_stands(call, message):
    """By position only: that of the layer's inputs is the order they are written in."""
    with pytest.raises(psu.UnsupportedModelError, match=message):
        psu.to_state_machine(two_membranes(call), (3,))


class Twice(nn.Module):
    def forward(self, a, b):
        return a + b


@pytest.mark.parametrize("layer", [ops.Flatten(), (ops.Add(), ops.Flatten()), None])
def test_a_converter_of_two_tensors_gives_one_layer_that_takes_two(layer):
    model = Forward(lambda net, x: net.twice(x, x), twice=Twice())
    assert psu.to_state_machine(model, (3,), converters={Twice: lambda module, features: ops.Add()})
    with pytest.raises(psu.UnsupportedModelError, match="needs one tensor in and one out"):
        psu.to_state_machine(model, (3,), converters={Twice: lambda module, features: layer})


def test_a_converter_of_two_tensors_wants_them_alike():
    model = Forward(lambda net, x: net.twice(x, x[..., :1]), twice=Twice())
    with pytest.raises(psu.UnsupportedModelError, match="takes tensors of different layouts"):
        psu.to_state_machine(model, (3,), converters={Twice: lambda module, features: ops.Add()})


def machine(decay=0.4, theta=math.pi / 4, features=(3,)):
    nodes = (Node("U", ops.Filter(ops.Leak(1.0, 0.4)), ("x",)), Node("V", ops.HandOver(decay, theta), ("x", "U")))
    return StateMachine(nodes, features)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
@pytest.mark.parametrize(("decay", "theta"), [(0.4, math.pi / 4), (0.9, 3.0)])
def test_the_bound_holds(decay, theta, scale):
    x = np.float32(scale * normal(20, 30, 3))
    assert excess(machine(decay, theta), x, machine(decay, theta).trace(x)) <= 0


def test_the_bound_is_useful():
    """Four windows, currents of size 1."""
    x = np.float32(normal(4, 200, 3))
    assert certify(machine(), x, machine().trace(x)).bounds.outputs["y"].max() < 1e-4


@pytest.mark.parametrize(("wrong", "slope"), [("U", 2 * 0.7 * 3.0), ("current", 2 * 0.7 * 3.0**2 * 0.1)])
def test_it_follows_an_error_through_the_projection(wrong, slope):
    """U is 0.1 and V 0, but for one that is uncertain: |dOmega/dp| <= 2 theta, |dOmega/dq| <= 2 theta^2 |p|."""
    cancelling = Node("sum", ops.Linear(np.array([[1e4, -1e4]])), ("x",))
    uncertain = Node(wrong, ops.Activation("sigmoid"), ("sum",))
    other, value = ("current", 0.0) if wrong == "U" else ("U", 0.1)
    certain = Node(other, ops.Linear(np.zeros((1, 2)), np.array([value])), ("x",))
    handed = Node("V", ops.HandOver(0.7, 3.0), ("current", "U"))
    x = np.ones((2, 1, 2), np.float32)

    def bounds(*nodes):
        machine = StateMachine(nodes, (2,))
        return certify(machine, x, machine.trace(x)).bounds.outputs["y"].flatten().tolist()

    known = bounds(cancelling, uncertain)[0]
    carried = bounds(cancelling, uncertain, certain, handed)[1] - (known if wrong == "current" else 0.0)
    assert known > 1e-3
    assert slope * known < carried < 1.01 * slope * known


def test_features_must_be_the_same():
    nodes = (Node("part", ops.Take(0, (0,)), ("x",)), Node("V", ops.HandOver(0.4, 1.0), ("x", "part")))
    with pytest.raises(psu.InputError, match="needs a current and a membrane of the same features"):
        StateMachine(nodes, (3,))


def test_lava_refuses_it(tmp_path):
    with pytest.raises(psu.UnsupportedModelError, match="feeds back through a sine"):
        psu.export(machine(), tmp_path / "net.net", target="lava", calibration=np.float32(normal(4, 2, 3)))
