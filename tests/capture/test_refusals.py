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
            self.block = nn.Sequential(nn.GELU(), nn.Linear(3, 3))
            self.fine = PSU()
            self.head = Lift(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))

        def forward(self, x):
            x = self.block(self.psn(x))
            return self.head(torch.tanh(self.fine(x))).max(0).values

    found = problems(Model(), (3,))
    assert {(p.path, p.kind) for p in found if p.path != "forward"} == {
        ("psn", "PSN"),
        ("block.0", "GELU"),
        ("head.layer.1", "LayerNorm"),
    }
    assert any("tanh" in p.kind for p in found)
    assert any("max" in p.kind for p in found)


def test_message_is_a_table():
    (problem,) = problems(SpikingSequential(nn.Linear(3, 3), PSN(5)), (3,))
    assert (problem.path, problem.kind) == ("1", "PSN")
    assert "not causal: step t needs inputs of later steps" in problem.reason
    assert "IPSU" in problem.remedy


@pytest.mark.parametrize(
    ("layer", "features", "reason"),
    [
        (nn.GELU(), (3,), "no converter for this type"),
        (nn.Tanh(), (3,), "no converter"),
        (nn.LeakyReLU(), (3,), "no converter"),
        (nn.LayerNorm(3), (3,), "no converter"),
        (nn.Softmax(-1), (3,), "no converter"),
        (nn.Conv3d(1, 1, 1), (1, 3, 3, 3), "no converter"),
        (nn.ConvTranspose2d(1, 1, 2), (1, 3, 3), "no converter"),
        (nn.GroupNorm(1, 3), (3, 4), "no converter"),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), (1, 5), "padding_mode='circular'"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), (1, 5, 5), "padding_mode='reflect'"),
        (nn.BatchNorm1d(3, track_running_stats=False), (3,), "its result depends on the batch"),
        (nn.AvgPool2d(2, divisor_override=3), (1, 4, 4), "divisor_override"),
        (nn.AvgPool1d(2, ceil_mode=True), (1, 5), "ceil_mode"),
        (nn.MaxPool2d(2, ceil_mode=True), (1, 4, 5), "ceil_mode"),
        (nn.MaxPool1d(2, dilation=2), (1, 5), "dilation"),
        (nn.AdaptiveAvgPool1d(2), (1, 5), "does not divide"),
        (nn.AdaptiveAvgPool2d((2, 3)), (1, 4, 4), "does not divide"),
        (nn.AdaptiveMaxPool1d(2), (1, 4), "no converter"),
        (nn.Unflatten(1, (2, 2)), (4,), "reshapes features"),
    ],
)
def test_stateless_layers(layer, features, reason):
    found = problems(SpikingSequential(nn.Identity(), layer, PSU()), features)
    assert found[0].path == "1"
    assert found[0].kind == type(layer).__name__
    assert reason in found[0].reason


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        (lambda net, x: net.fc(x).tanh(), "tanh"),
        (lambda net, x: torch.exp(net.fc(x)), "exp"),
        (lambda net, x: net.fc(x).max(0).values, "max"),
        (lambda net, x: net.fc(x).mean(1), "mean"),
        (lambda net, x: net.fc(x).mean(-1), "mean"),
        (lambda net, x: net.fc(x).mean(0, keepdim=True), "mean"),
        (lambda net, x: net.fc(x).sum(), "sum"),
        (lambda net, x: net.fc(x)[0], "getitem"),
        (lambda net, x: net.fc(x)[:, :1], "getitem"),
        (lambda net, x: net.fc(x)[torch.tensor([1, 0])], "getitem"),
        (lambda net, x: net.fc(x).cumsum(0), "cumsum"),
        (lambda net, x: net.fc(x).flip(0), "flip"),
        (lambda net, x: net.fc(x.roll(1, 0)), "roll"),
        (lambda net, x: net.fc(x).transpose(0, 1), "transpose"),
        (lambda net, x: net.fc(x) * net.fc(x).mean(0), "mul"),
        (lambda net, x: net.fc(x) * net.fc(x)[..., :1], "getitem"),
        (lambda net, x: net.fc(x) - net.fc(x), "sub"),
        (lambda net, x: net.fc(x) / net.fc(x), "div"),
        (lambda net, x: 1 / net.fc(x), "div"),
        (lambda net, x: net.fc(x) + net.fc(x).mean(0), "add"),
        (lambda net, x: torch.add(net.fc(x), x, alpha=2), "add"),
        (lambda net, x: torch.cat([net.fc(x), x], -1), "cat"),
        (lambda net, x: net.fc(torch.stack([x, x]).sum(0)), "stack"),
        (lambda net, x: net.fc(x).chunk(3, -1)[0], "chunk"),
        (lambda net, x: net.fc(x).unsqueeze(-1).reshape(x.shape[1], x.shape[0], 3), "reshape"),
    ],
)
def test_operations_between_modules(forward, kind):
    """The operation itself is named, not only the module that its result goes into."""
    assert any(kind in problem.kind for problem in problems(Forward(forward, fc=nn.Linear(3, 3)), (3,)))


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
        assert any("mixes time, batch and features" in p.reason for p in found)


class TestForwardsThatCannotBeFollowed:
    @pytest.mark.parametrize(
        "forward",
        [
            lambda net, x: net.fc(x) if x.sum() > 0 else x,
            lambda net, x: torch.stack([net.fc(x_t) for x_t in x]),
            lambda net, x: net.fc(x).view(*x.shape),
        ],
    )
    def test_branches_loops_and_stars(self, forward):
        (problem,) = problems(Forward(forward, fc=nn.Linear(3, 3)), (3,))
        assert "could not be traced" in problem.reason

    @pytest.mark.parametrize("error", [AssertionError, NotImplementedError, RuntimeError])
    def test_errors_without_a_message(self, error):
        def forward(net, x):
            raise error

        (problem,) = problems(Forward(forward), (3,))
        assert "could not be traced" in problem.reason

    @pytest.mark.parametrize(
        "forward", [lambda net, x: (net.fc(x), x), lambda net, x: {"y": net.fc(x)}, lambda net, x: None]
    )
    def test_not_one_tensor(self, forward):
        assert any("one tensor" in p.reason for p in problems(Forward(forward, fc=nn.Linear(3, 3)), (3,)))

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

        found = {(p.path, p.kind) for p in problems(SpikingSequential(nn.Linear(3, 3), Mine(), nn.GELU()), (3,))}
        assert found == {("1", "Mine"), ("2", "GELU")}

    def test_problems_found_before_a_crash_are_told(self):
        def forward(net, x):
            return net.n(net.gelu(x).sum())

        found = problems(Forward(forward, gelu=nn.GELU(), n=PSU()), (3,))
        assert found[0].kind == "GELU"

    def test_two_horizons(self):
        found = problems(SpikingSequential(PSN(6), nn.Linear(3, 3), IPSU(4), nn.GELU()), (3,))
        assert {p.kind for p in found} >= {"PSN"}


def test_weights_that_are_not_numbers():
    model = SpikingSequential(nn.Linear(3, 3), PSU(), nn.Linear(3, 3))
    nn.init.constant_(model[2].weight, torch.nan)
    with pytest.raises((InputError, UnsupportedModelError), match=r"\b2\b.*NaN"):
        to_state_machine(model, (3,))
