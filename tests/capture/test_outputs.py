"""Networks that return several tensors: by name, whatever they are wrapped in, each of all steps or of the last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import psu_deploy as psu
from psu_deploy.errors import InputError, UnsupportedModelError
from psu_deploy.machine import ops
from psu_deploy.nn.along_time import TimeConv1d
from tests.helpers import Forward

X = torch.from_numpy(np.random.default_rng(0).normal(0.5, 2.0, (7, 3, 5)).astype(np.float32))


class Pair(NamedTuple):
    logits: Tensor
    rates: Tensor


@dataclass
class Record:
    logits: Tensor
    rates: Tensor
    loss: Tensor | None = None


def net(wrap):
    def forward(net, x):
        spikes = net.neuron(net.fc(x))
        return wrap(net.head(spikes), spikes)

    parts = {"fc": psu.Lift(nn.Linear(5, 4)), "neuron": psu.RPSU(7), "head": psu.Lift(nn.Linear(4, 2))}
    return Forward(forward, **parts).eval()


WRAPPED = {
    "tuple": (lambda y, s: (y, s), ["0", "1"]),
    "list": (lambda y, s: [y.mean(0), s], ["0", "1"]),
    "dict": (lambda y, s: {"logits": y.sum(0), "spikes": s}, ["logits", "spikes"]),
    "ordered": (lambda y, s: OrderedDict(b=y[-1], a=s), ["b", "a"]),
    "named": (lambda y, s: Pair(y, s.mean(0)), ["logits", "rates"]),
    "dataclass": (lambda y, s: Record(y, s.mean(0)), ["logits", "rates"]),
    "nested": (lambda y, s: (y.mean(0), {"all": [s, y], "none": None}), ["0", "1.all.0", "1.all.1"]),
    "int keys": (lambda y, s: {3: y, 1: s}, ["3", "1"]),
    "one twice": (lambda y, s: (y, y), ["0", "1"]),
    "views of one": (lambda y, s: (s.unsqueeze(-1), s, s[..., :2]), ["0", "1", "2"]),
    "the input too": (lambda y, s: {"y": y.mean(0), "s": s.flatten(2)}, ["y", "s"]),
    "halves": (lambda y, s: s.chunk(2, -1), ["0", "1"]),
    "scalars": (lambda y, s: (y.max(2).values, y), ["0", "1"]),
}


def flat(result):
    """Every tensor in it, in order."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Record):
        result = (result.logits, result.rates)
    inside = result.values() if isinstance(result, dict) else result
    return [tensor for one in inside if one is not None for tensor in flat(one)]


@pytest.mark.rows(len(WRAPPED))
@pytest.mark.parametrize("name", WRAPPED)
def test_every_form_gives_what_the_network_gives(name, tmp_path):
    wrap, names = WRAPPED[name]
    model = net(wrap)
    machine = psu.to_state_machine(model, (5,))
    assert list(machine.outputs) == names
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"), threads=1)
    expected = flat(model(X))
    for y in (machine.run(X), runner.run(X.numpy())):
        for got, tensor in zip(y.values(), expected, strict=True):
            same_steps = got if got.ndim == tensor.ndim else got[-1]
            np.testing.assert_allclose(same_steps, tensor.detach(), atol=1e-5)
    assert psu.verify(model, runner, X).ok


def test_one_number_per_sample(tmp_path):
    """What most regression heads end in."""

    def forward(net, x):
        return net.head(net.neuron(net.fc(x))).squeeze(-1)

    parts = {"fc": psu.Lift(nn.Linear(5, 4)), "neuron": psu.RPSU(7), "head": psu.Lift(nn.Linear(4, 1))}
    model = Forward(forward, **parts).eval()
    runner = psu.load(psu.export(model, tmp_path / "net.onnx", input_shape=(5,)), threads=1)
    np.testing.assert_allclose(runner.run(X.numpy()), model(X).detach(), atol=1e-5)
    assert psu.verify(model, runner, X).ok


def test_one_in_a_dictionary_is_the_output():
    machine = psu.to_state_machine(net(lambda y, s: {"logits": y, "loss": None}), (5,))
    assert machine.outputs == {"y": (2,)}


@pytest.mark.full
def test_branches_that_look_ahead_differently_answer_together(tmp_path):
    """The machine is as late as the latest; every output says so."""

    def forward(net, x):
        return {"ahead": net.near(x), "further": net.neuron(net.far(x))}

    near, far = TimeConv1d(5, 2, 3, lookahead=1), TimeConv1d(5, 4, 4, lookahead=2)
    model = Forward(forward, near=near, far=far, neuron=psu.LIF()).eval()
    machine = psu.to_state_machine(model, (5,))
    assert machine.latency == 2
    assert psu.verify(model, psu.export(machine, tmp_path / "net.onnx"), X).ok


@pytest.mark.full
def test_a_picture(tmp_path):
    """What does not change over time is an output as well."""

    def forward(net, x):
        stem = net.fc(x)
        spikes = net.neuron(stem.unsqueeze(0).repeat(6, 1, 1))
        return {"stem": stem, "rate": spikes.mean(0)}

    model = Forward(forward, fc=nn.Linear(5, 4), neuron=psu.PSU()).eval()
    machine = psu.to_state_machine(model, (5,))
    x = X[:1].expand(6, 3, 5)
    np.testing.assert_allclose(machine.run(x)["stem"][-1], model(x[0])["stem"].detach(), atol=1e-6)
    assert psu.verify(model, psu.export(machine, tmp_path / "net.onnx"), x).ok


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda y, s: {"logits": y, "aux": torch.zeros(3)}, "the output 'aux' is no tensor that depends on the input"),
        (lambda y, s: (y, 0.5), "the output '1' is no tensor that depends on the input"),
        (lambda y, s: (y, s[2]), "the output '1' is of one step in the middle"),
        (lambda y, s: (y, s.flatten(0, 1)), "the output '1' has T and B folded together"),
        (lambda y, s: (y, s.transpose(0, 1)), "the output '1' is .*"),
        (lambda y, s: (y, s.mean(1)), "over samples"),
    ],
)
def test_each_is_looked_at(wrap, message):
    with pytest.raises(UnsupportedModelError, match=message):
        psu.to_state_machine(net(wrap), (5,))


def test_two_of_one_name():
    with pytest.raises(InputError, match=r"the model returns two outputs called 'a\.b'; name them differently"):
        psu.to_state_machine(net(lambda y, s: {"a.b": y, "a": {"b": s}}), (5,))


@pytest.mark.parametrize("target", ["nir", "lava"])
def test_where_one_is_given_one_is_chosen(target, tmp_path):
    machine = psu.to_state_machine(net(lambda y, s: {"logits": y, "spikes": s}), (5,))
    options = {"calibration": X.numpy()} if target == "lava" else {}
    path = tmp_path / ("net.net" if target == "lava" else "net.nir")
    with pytest.raises(UnsupportedModelError, match=r'machine.only\("name"\)'):
        psu.export(machine, path, target=target, **options)


@pytest.mark.full
def test_another_number_in_one_of_them_is_seen(tmp_path):
    """The file of a network whose second head differs in one weight."""
    first = net(lambda y, s: {"spikes": s, "logits": y.mean(0)})
    path = psu.export(first, tmp_path / "net.onnx", input_shape=(5,)).path
    with torch.no_grad():
        first.head.layer.weight[1, 2] += 0.5
    report = psu.verify(first, path, X)
    assert not report.ok
    assert "output 'logits'" in str(report)


def test_layers_that_are_called_as_the_file_calls_outputs(tmp_path):
    """`y.V` is a state of layer `y` and would be the output V."""

    def forward(net, x):
        return {"V": net.y(x), "V.next": net.z(x)}

    model = Forward(forward, y=psu.LIF(), z=psu.LIF(tau=3.0)).eval()
    machine = psu.to_state_machine(model, (5,))
    assert isinstance(machine.end.layer, ops.Outputs)
    assert psu.verify(model, psu.export(machine, tmp_path / "net.onnx"), X).ok


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((1, "1"), "the model returns two outputs called '1'; name them differently"),
        (("", "b"), "the model returns an output called '', which no file could hold; call it otherwise"),
        (("a", "b\0"), r"the model returns an output called 'b\\x00', which no file could hold"),
    ],
)
def test_names_that_cannot_be(keys, message):
    with pytest.raises(InputError, match=message):
        psu.to_state_machine(net(lambda y, s: dict(zip(keys, (y, s), strict=True))), (5,))


def test_an_output_called_y_may_be_the_input():
    def forward(net, x):
        return {"y": x, "z": net.neuron(x)}

    machine = psu.to_state_machine(Forward(forward, neuron=psu.LIF()), (5,))
    assert torch.equal(machine.run(X)["y"], X)
    with pytest.raises(InputError, match="the output 'y' is the network's input: no layer computes it"):
        machine.only("y")


def test_what_follows_from_a_refusal_is_not_another():
    """Nothing is known of what an operation without a serial form gives, and that was said."""
    with pytest.raises(UnsupportedModelError, match="1 problem") as refusal:
        psu.to_state_machine(net(lambda y, s: (y, s.cumprod(-1))), (5,))
    assert "depends on numbers" not in str(refusal.value)
