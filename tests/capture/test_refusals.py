"""What has no serial form is refused: everything at once, with path, type, reason and what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import InputError, Problem, UnsupportedModelError
from psu_deploy.nn.containers import Lift, SpikingSequential
from psu_deploy.nn.neurons import IPSU, LIF, PSN, PSU
from tests.helpers import Forward, linear


def problems(model, features, **options) -> tuple[Problem, ...]:
    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(model, features, **options)
    for problem in caught.value.problems:
        assert all(text in str(caught.value) for text in (problem.path, problem.kind, problem.reason, problem.remedy))
        assert problem.path
        assert problem.kind
        assert problem.reason
        assert problem.remedy
    return caught.value.problems


def test_everything_at_once():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.psn = PSN(4)
            self.block = nn.Sequential(nn.Tanhshrink(), nn.Linear(3, 3))
            self.fine = PSU()
            self.head = Lift(nn.Sequential(nn.Linear(3, 2), nn.Hardshrink()))

        def forward(self, x):
            x = self.block(self.psn(x))
            return torch.atan(self.head((self.fine(x) > 0.5).float()))

    found = problems(Model(), (3,))
    assert {(p.path, p.kind) for p in found if "forward" not in p.path} == {
        ("psn", "PSN"),
        ("block.0", "Tanhshrink"),
        ("head.layer.1", "Hardshrink"),
    }
    assert any("gt" in p.kind for p in found)
    assert any("atan" in p.kind for p in found)


def test_message_is_a_table():
    (problem,) = problems(SpikingSequential(nn.Linear(3, 3), PSN(5)), (3,))
    assert (problem.path, problem.kind) == ("1", "PSN")
    assert "not causal: step t needs inputs of later steps" in problem.reason
    assert "IPSU" in problem.remedy


@pytest.mark.parametrize(
    ("layer", "features", "reason"),
    [
        (nn.Tanhshrink(), (3,), "no converter for this type"),
        (nn.LocalResponseNorm(3), (3, 4), "no converter"),
        (nn.ConvTranspose3d(1, 1, 1), (1, 3, 3, 3), "no converter"),
        (nn.LPPool1d(-1, 2), (1, 4), "norm_type=-1 is no norm"),
        (nn.LPPool2d(2, 2, ceil_mode=True), (1, 4, 5), "ceil_mode"),
        (nn.BatchNorm1d(3, track_running_stats=False), (3,), "its result depends on the batch"),
        (nn.AvgPool2d(2, divisor_override=3), (1, 4, 4), "divisor_override"),
        (nn.AvgPool1d(2, ceil_mode=True), (1, 5), "ceil_mode"),
        (nn.MaxPool2d(2, ceil_mode=True), (1, 4, 5), "ceil_mode"),
        (nn.MaxPool1d(2, dilation=2), (1, 5), "dilation"),
    ],
)
def test_stateless_layers(layer, features, reason):
    found = problems(SpikingSequential(nn.Identity(), layer, PSU()), features)
    assert found[0].path == "1"
    assert found[0].kind == type(layer).__name__
    assert reason in found[0].reason


class TestLayouts:
    @pytest.mark.parametrize(
        ("layer", "features"),
        [
            (nn.AvgPool1d(1), (5,)),
            (nn.MaxPool1d(1), (5,)),
            (nn.AvgPool2d(1), (5, 6)),
            (nn.MaxPool2d(1), (5, 6)),
        ],
    )
    def test_torch_layers_that_are_not_lifted(self, layer, features):
        (problem,) = problems(Forward(lambda net, x: net.layer(x), layer=layer), features)
        assert (problem.path, problem.kind) == ("layer", type(layer).__name__)
        assert "takes T for the batch" in problem.reason
        assert "Lift" in problem.remedy

    @pytest.mark.parametrize("neuron", [PSU(), IPSU(4), IPSU(12)])
    def test_neuron_on_folded_axes(self, neuron):
        found = problems(Forward(lambda net, x: net.n(net.fc(x.flatten(0, 1))), fc=nn.Linear(3, 3), n=neuron), (3,))
        assert any(p.path == "n" and "works along time" in p.reason for p in found)

    def test_neuron_after_the_readout(self):
        found = problems(Forward(lambda net, x: net.n(net.fc(x).mean(0)), fc=linear(3, 3), n=PSU()), (3,))
        assert any(p.path == "n" and "works along time" in p.reason for p in found)

    def test_folded_output(self):
        (problem,) = problems(Forward(lambda net, x: net.fc(x.flatten(0, 1)), fc=nn.Linear(3, 3)), (3,))
        assert "folded" in problem.reason

    def test_time_mixed_into_the_features(self):
        found = problems(Forward(lambda net, x: net.fc(x.flatten(1)), fc=nn.Linear(9, 3)), (3,))
        assert any("works over the last axis of (T, B*...)" in p.reason for p in found)


class TestForwardsThatCannotBeFollowed:
    @pytest.mark.parametrize("error", [AssertionError, NotImplementedError, RuntimeError])
    def test_errors_without_a_message(self, error):
        def forward(net, x):
            raise error

        with pytest.raises(InputError, match=f"the model fails on an example x .*{error.__name__}"):
            to_state_machine(Forward(forward), (3,))

    @pytest.mark.parametrize("forward", [lambda net, x: None, lambda net, x: ([], {"a": None})])
    def test_it_returns_nothing(self, forward):
        assert any("returns nothing" in p.reason for p in problems(Forward(forward, fc=nn.Linear(3, 3)), (3,)))

    @pytest.mark.parametrize("model", [nn.Identity(), nn.Dropout(), SpikingSequential()])
    def test_nothing_at_all(self, model):
        (problem,) = problems(model, (3,))
        assert "the output is the input" in problem.reason

    def test_subclass_of_a_neuron(self):
        """A subclass may compute something else: it is refused by its own name, beside all other problems.

        What is built on a `SpikingUnit` says its equations, and is held against them; a LIF does not.
        """

        class Mine(LIF):
            pass

        found = {(p.path, p.kind) for p in problems(SpikingSequential(nn.Linear(3, 3), Mine(), nn.Tanhshrink()), (3,))}
        assert found == {("1", "Mine"), ("2", "Tanhshrink")}

    def test_problems_found_before_a_crash_are_told(self):
        def forward(net, x):
            return net.n(net.shrink(x).sum())

        found = problems(Forward(forward, shrink=nn.Tanhshrink(), n=PSU()), (3,))
        assert found[0].kind == "Tanhshrink"

    def test_two_horizons(self):
        found = problems(SpikingSequential(PSN(6), nn.Linear(3, 3), IPSU(4), nn.Tanhshrink()), (3,))
        assert {p.kind for p in found} >= {"PSN"}


def test_weights_that_are_not_numbers():
    model = SpikingSequential(nn.Linear(3, 3), PSU(), nn.Linear(3, 3))
    nn.init.constant_(model[2].weight, torch.nan)
    with pytest.raises((InputError, UnsupportedModelError), match=r"\b2\b.*NaN"):
        to_state_machine(model, (3,))
