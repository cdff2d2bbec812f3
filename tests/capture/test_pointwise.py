"""Every pointwise function and softmax, as a module, a function and a tensor method, against torch."""

from __future__ import annotations

import operator
from math import inf

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.axes import SEQUENCE, STEP
from psu_deploy.capture.layers import FUNCTIONS, STATELESS
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal, UnsupportedModelError
from psu_deploy.machine import Node, StateMachine
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import PSU
from tests.helpers import ROUNDING, axes_of, check_capture

MODULES = {
    "ReLU": nn.ReLU(),
    "Sigmoid": nn.Sigmoid(),
    "Tanh": nn.Tanh(),
    "SiLU": nn.SiLU(),
    "Mish": nn.Mish(),
    "Hardswish": nn.Hardswish(),
    "Hardsigmoid": nn.Hardsigmoid(),
    "Softsign": nn.Softsign(),
    "LogSigmoid": nn.LogSigmoid(),
    "GELU": nn.GELU(),
    "GELU by tanh": nn.GELU("tanh"),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "LeakyReLU downwards": nn.LeakyReLU(-1.5),
    "PReLU": nn.PReLU(),
    "ELU": nn.ELU(1.3),
    "ELU upwards": nn.ELU(-0.5),
    "CELU": nn.CELU(0.7),
    "SELU": nn.SELU(),
    "ReLU6": nn.ReLU6(),
    "Hardtanh": nn.Hardtanh(-0.3, 1.5),
    "Hardtanh without an end": nn.Hardtanh(-0.3, inf),
    "Softplus": nn.Softplus(),
    "Softplus, steep and soon a line": nn.Softplus(2.0, 1.0),
    "Softplus, mirrored": nn.Softplus(-1.0, 3.0),
    "Softmax": nn.Softmax(-1),
    "LogSoftmax": nn.LogSoftmax(-1),
    "Hardtanh in place": nn.Hardtanh(inplace=True),
}


@pytest.mark.parametrize("layer", MODULES.values(), ids=MODULES)
def test_module(layer):
    check_capture(SpikingSequential(nn.Linear(3, 4), PSU(), nn.Linear(4, 4), layer, PSU()), (3,))


@pytest.mark.parametrize("features", [(3, 4), (3, 2, 4)])
def test_prelu_per_channel(features):
    layer = nn.PReLU(3)
    nn.init.normal_(layer.weight)
    check_capture(SpikingSequential(layer, PSU()), features)


@pytest.mark.parametrize(
    ("layer", "features", "axis"),
    [
        (nn.Softmax(-2), (3, 4), 0),
        (nn.Softmax2d(), (3, 4, 2), 0),
        (nn.LogSoftmax(-1), (3, 4, 2), 2),
    ],
)
def test_axis_of_softmax(layer, features, axis):
    machine = check_capture(SpikingSequential(layer, PSU()), features)
    assert machine.nodes[0].layer.axis == axis


REFUSED = {
    "no axis": (nn.Softmax(), (3,), "dim=None"),
    "the batch": (nn.Softmax(0), (3,), "axis 0"),
    "an axis that there is not": (nn.LogSoftmax(-2), (3,), "axis -2"),
    "a curve without steepness": (nn.Softplus(0.0), (3,), "beta"),
    "an exponential without end": (nn.CELU(-1.0), (3,), "rate"),
}


@pytest.mark.parametrize(("layer", "features", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(layer, features, reason):
    with pytest.raises(Refusal, match=reason):
        STATELESS[type(layer)](layer, features)


class OfASequence(nn.Module):
    """A softmax that is given (T, B, *features) as they are."""

    def __init__(self, dim):
        super().__init__()
        self.softmax = nn.Softmax(dim)

    def forward(self, x):
        return self.softmax(x)


@pytest.mark.parametrize("dim", [1, 2])
def test_an_axis_that_counts_time_is_noticed(dim):
    """The module does not say whether it is given (T, B, ...) or (B, ...)."""
    with pytest.raises(UnsupportedModelError, match="does not compute"):
        to_state_machine(OfASequence(dim), (4, 3))
    check_capture(OfASequence(-2), (4, 3))
    check_capture(SpikingSequential(nn.Softmax(dim)), (4, 3))


def ruled(target, x, *args, layout=STEP, **kwargs):
    """What a rule makes of a call, run; and what torch says."""
    value = Value(x, "x", axes_of(x, layout))
    layer = FUNCTIONS[target](value, *args, **kwargs)
    machine = StateMachine((Node("a", layer, ("x",)),), value.features)
    call = getattr(torch.Tensor, target) if isinstance(target, str) else target
    expected = call(x.clone(), *args, **kwargs)
    steps = x if layout is SEQUENCE else x[None]
    return machine.run(steps), expected if layout is SEQUENCE else expected[None]


def check(target, *args, positive=False, layout=STEP, **kwargs):
    x = torch.from_numpy(np.random.default_rng(0).normal(0.5, 2.0, (5, 4, 3)))
    x = x.abs() + 0.1 if positive else x
    found, expected = ruled(target, x, *args, layout=layout, **kwargs)
    np.testing.assert_allclose(found, expected, **ROUNDING)


SAME_NUMBERS = [target for target in FUNCTIONS if getattr(target, "__name__", target).strip("_") in {
    *("relu", "sigmoid", "tanh", "erf", "sin", "cos", "softsign", "silu", "mish", "hardswish", "hardsigmoid"),
    *("logsigmoid", "abs", "absolute", "neg", "negative", "exp", "expm1", "square", "reciprocal", "gelu", "leaky_relu"),
    *("elu", "celu", "selu", "relu6", "hardtanh", "softplus", "log_sigmoid"),
}]  # fmt: skip
POSITIVE = ("log", "log1p", "sqrt", "rsqrt")


@pytest.mark.parametrize("target", SAME_NUMBERS, ids=lambda target: getattr(target, "__name__", f"Tensor.{target}"))
def test_function(target):
    check(target)


@pytest.mark.parametrize("place", [torch, "method", "in place"])
@pytest.mark.parametrize("name", POSITIVE)
def test_function_of_what_is_positive(name, place):
    check(getattr(torch, name) if place is torch else name if place == "method" else f"{name}_", positive=True)


CALLS = {
    "gelu by tanh": (F.gelu, (), {"approximate": "tanh"}),
    "leaky_relu": (F.leaky_relu, (0.3,), {}),
    "elu": (F.elu, (), {"alpha": 0.3, "inplace": True}),
    "softplus": (F.softplus, (1.5, 2.0), {}),
    "hardtanh": (F.hardtanh, (-0.1, 0.2), {}),
    "prelu": (F.prelu, (torch.tensor([0.3], dtype=torch.float64),), {}),
    "prelu per channel": (torch.prelu, (torch.tensor([0.3, -1.0, 0.1, 2.0], dtype=torch.float64),), {}),
    "prelu method": ("prelu", (torch.tensor([0.3], dtype=torch.float64),), {}),
    "clamp": (torch.clamp, (-0.5, 1.0), {}),
    "clamp by name": ("clamp", (), {"max": 1}),
    "clamp in place": ("clamp_", (0.2,), {}),
    "clip": (torch.clip, (), {"min": -0.1}),
    "clip method": ("clip", (-1, 1), {}),
    "clamp_min": ("clamp_min", (0.3,), {}),
    "clamp_max": (torch.clamp_max, (0.3,), {}),
    "clamp from -inf": (torch.clamp, (-inf, 1.0), {}),
    "pow": (torch.pow, (2,), {}),
    "pow by name": (torch.pow, (), {"exponent": 3.0}),
    "pow method": ("pow", (-1,), {}),
    "**": (operator.pow, (-2,), {}),
    "**=": ("__ipow__", (4,), {}),
    "** 0": (operator.pow, (0,), {}),
    "softmax": (torch.softmax, (-1,), {}),
    "softmax of F": (F.softmax, (), {"dim": 1}),
    "softmax method": ("softmax", (2,), {}),
    "log_softmax": (torch.log_softmax, (), {"dim": -1, "dtype": torch.float64}),
    "log_softmax of F": (F.log_softmax, (1,), {}),
    "log_softmax method": ("log_softmax", (-2,), {}),
}


@pytest.mark.parametrize(("target", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_call(target, args, kwargs):
    check(target, *args, **kwargs)


@pytest.mark.parametrize("exponent", [0.5, -0.5, 1.5, 1 / 3, 2.5, -1.25])
def test_power_of_what_is_positive(exponent):
    check(torch.pow, exponent, positive=True)


def test_softmax_counts_the_axes_of_a_sequence():
    check(F.softmax, 2, layout=SEQUENCE)


X = torch.ones(5, 4, 3)
WRONG = {
    "over time": (F.softmax, (0,), {}, SEQUENCE),
    "over the batch": (torch.softmax, (1,), {}, SEQUENCE),
    "no axis": (F.softmax, (), {}, STEP),
    "in another precision": (F.softmax, (-1,), {"dtype": torch.float64}, STEP),
    "ends that are tensors": (torch.clamp, (torch.zeros(3),), {}, STEP),
    "a power that is a tensor": (torch.pow, (torch.zeros(3),), {}, STEP),
    "ends in the wrong order": (torch.clamp, (1.0, 0.0), {}, STEP),
    "slopes along the batch": (F.prelu, (torch.ones(4),), {}, SEQUENCE),
    "a gelu of another kind": (F.gelu, (), {"approximate": "erf"}, STEP),
}


@pytest.mark.parametrize(("target", "args", "kwargs", "layout"), WRONG.values(), ids=WRONG)
def test_refused_call(target, args, kwargs, layout):
    with pytest.raises(Refusal):
        FUNCTIONS[target](Value(X, "x", axes_of(X, layout)), *args, **kwargs)


def test_a_clamp_without_ends_is_nothing():
    assert FUNCTIONS[torch.clamp](Value(X, "x", axes_of(X, STEP)), -inf, inf) is None
