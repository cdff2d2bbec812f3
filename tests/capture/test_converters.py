"""The user's own converters: they win over the built-in ones, and their faults are told as theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.layers import linear as built_in_linear
from psu_deploy.errors import InputError, Problem, Refusal, UnsupportedModelError
from psu_deploy.machine import ops
from psu_deploy.nn.containers import Lift, SpikingSequential
from psu_deploy.nn.neurons import PSU, MaskedPSN
from psu_deploy.nn.neurons.base import SpikingUnit, TimeFirst
from psu_deploy.nn.temporal import Exponentials, StrictLeak
from tests.helpers import check_capture


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return x * self.factor


def scale(module, features):
    factor = np.full(features[0], module.factor.item())
    return ops.ChannelAffine(factor, np.zeros(features[0]))


def test_own_layer():
    model = SpikingSequential(nn.Linear(3, 4), Scale(2.5), PSU())
    machine = check_capture(model, (3,), converters={Scale: scale})
    assert [node.name for node in machine.nodes] == ["0", "2"]  # folded, under the module's name


def test_sees_the_features_of_one_step():
    seen = []

    def converter(module, features):
        seen.append(features)
        return scale(module, features)

    to_state_machine(Lift(Scale(1.0)), (2, 3, 4), converters={Scale: converter})
    assert set(seen) == {(2, 3, 4)}


class TwoTimescales(SpikingUnit):
    def __init__(self):
        super().__init__(1.0, ">=", None)
        self.integrate = self.estimate = Exponentials([0.5, 0.25], [0.9, 0.3])
        self.reset = StrictLeak(1.0, 0.5)
        self.estimator = nn.Sigmoid()


class TestOwnNeurons:
    """A `SpikingUnit` says what it is: it needs no converter, and is held against its equations."""

    def test_of_operators_there_are(self):
        check_capture(SpikingSequential(nn.Linear(3, 4), TwoTimescales()), (3,))

    def test_a_subclass_is_what_it_was_built_on(self):
        faded = type("Faded", (MaskedPSN,), {})(8, 3)
        faded.lambda_ = 0.5
        check_capture(SpikingSequential(nn.Linear(3, 4), type("Mine", (PSU,), {})(tau=3.0)), (3,))
        with pytest.raises(UnsupportedModelError, match="rows still look ahead"):
            to_state_machine(SpikingSequential(nn.Linear(3, 4), faded), (3,))

    @pytest.mark.parametrize("base", [TwoTimescales, PSU])
    def test_one_that_computes_something_else(self, base):
        """At the hundredth step, say: no example would tell."""

        class Louder(base):
            def potentials(self, x):
                return super().potentials(2 * x)

        class Silent(base):
            def forward(self, x):
                return torch.cat([super().forward(x)[:100], torch.zeros_like(x[100:])])

        class Harder(base):
            threshold = 2.0

        for kind, name in ((Louder, "potentials"), (Silent, "forward"), (Harder, "threshold")):
            with pytest.raises(UnsupportedModelError, match=f"{kind.__name__} +defines {name} by itself"):
                to_state_machine(SpikingSequential(nn.Linear(3, 4), kind()), (3,))

    def test_one_whose_operators_are_changed_while_it_runs(self):
        class Wrong(TwoTimescales):
            def __init__(self):
                super().__init__()
                self.integrate.register_forward_hook(lambda module, given, y: 2 * y)

        with pytest.raises(UnsupportedModelError, match=r"Wrong +fires differently from its equations"):
            to_state_machine(SpikingSequential(nn.Linear(3, 4), Wrong()), (3,))

    def test_a_converter_of_its_own_comes_first(self):
        def refuse(module, features):
            raise Refusal("mine", "change it")

        with pytest.raises(UnsupportedModelError, match="mine"):
            to_state_machine(TwoTimescales(), (3,), converters={TwoTimescales: refuse})


def test_own_module_along_time():
    class Shift(TimeFirst):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x[:1]), x[:-1]])

    model = SpikingSequential(nn.Linear(3, 4), Shift(), PSU())
    machine = check_capture(model, (3,), converters={Shift: lambda module, features: ops.Delay(1)})
    assert [type(node.layer).__name__ for node in machine.nodes] == ["Linear", "Delay", "SpikingNeuron"]


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_own_op_with_a_memory(factor, monkeypatch):
    """It is held against its module along time, as ours are, because it says that it has a memory."""

    class Echo(TimeFirst):
        def forward(self, x):
            return x + factor * torch.cat([torch.zeros_like(x[:1]), x[:-1]])

    @dataclass(frozen=True, eq=False)
    class Echoed(ops.Layer):
        along_time = True

        def state_shapes(self, *inputs):
            return {"y": inputs[0]}

        def error(self, inputs, context, roundoff):
            raise AssertionError("nobody asks")

        def step(self, inputs, context):
            context.new_state["y"] = inputs[0]
            return inputs[0] + context.state["y"]

    monkeypatch.setitem(ops.KINDS, "Echoed", Echoed)
    model = SpikingSequential(nn.Linear(3, 4), Echo(), PSU())
    converters = {Echo: lambda module, features: Echoed()}
    if factor == 1.0:
        machine, x = to_state_machine(model, (3,), converters=converters), torch.randn(6, 2, 3)
        torch.testing.assert_close(machine.run(x), model(x))
        return
    with pytest.raises(UnsupportedModelError, match="does not compute what Echoed computes"):
        to_state_machine(model, (3,), converters=converters)


def test_wins_over_the_built_in():
    calls = []

    def mine(module, features):
        calls.append(features)
        return built_in_linear(module, features)

    check_capture(SpikingSequential(nn.Linear(3, 4), PSU()), (3,), converters={nn.Linear: mine})
    assert set(calls) == {(3,)}


def test_wins_over_the_built_in_flatten():
    calls = []

    def mine(module, features):
        calls.append(features)
        return ops.Flatten()

    check_capture(SpikingSequential(nn.Flatten(), nn.Linear(6, 4)), (2, 3), converters={nn.Flatten: mine})
    assert set(calls) == {(2, 3)}


def test_none_means_nothing():
    class Monitor(nn.Module):
        def forward(self, x):
            return x

    model = SpikingSequential(nn.Linear(3, 4), Monitor(), PSU())
    machine = check_capture(model, (3,), converters={Monitor: lambda module, features: None})
    assert len(machine.nodes) == 2


def test_own_refusal_has_its_reason():
    def refuse(module, features):
        raise Refusal("factor is not one", "set it to one")

    with pytest.raises(UnsupportedModelError) as caught:
        to_state_machine(SpikingSequential(nn.Linear(3, 4), Scale(2.0)), (3,), converters={Scale: refuse})
    assert caught.value.problems == (Problem("1", "Scale", "factor is not one", "set it to one"),)


@pytest.mark.parametrize(
    "converter",
    [
        lambda module, features: ops.ChannelAffine(np.full(4, 3.0), np.zeros(4)),
        lambda module, features: ops.Linear(np.ones((2, 4))),
        lambda module, features: "not a layer",
        lambda module, features: {}["a bug"],
    ],
    ids=["other numbers", "other shape", "no layer", "crashes"],
)
def test_wrong_converters_are_noticed(converter):
    """Never a machine that computes something else, and never the blame on the model."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  any error will do, but it must speak of the converter
        to_state_machine(SpikingSequential(nn.Linear(3, 4), Scale(2.0), PSU()), (3,), converters={Scale: converter})
    assert not (isinstance(caught.value, InputError) and "the model fails on an example" in str(caught.value))
