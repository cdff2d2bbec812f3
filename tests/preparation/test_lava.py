"""psu.prepare for Lava: tables for sigmoids, weights of 8 bits; what stays, what it says, and what runs afterwards."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import psu_deploy as psu
from psu_deploy.errors import InputError, UnsupportedModelError
from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.neurons import SigmoidTable, SpikingUnit, Staircase
from psu_deploy.nn.quantisation import Int8Weight
from psu_deploy.nn.temporal import Identity, Leak, StrictLeak
from psu_deploy.preparation import prepare_structure
from tests.helpers import currents, leak_matrix, strict_leak_matrix
from tests.preparation.test_nir import NEURONS, Own, T, every_neuron, network, numbers

ESTIMATES = ("psu", "ipsu", "rpsu", "ppsu")
"""Neurons that look through the sigmoid."""


def on_levels(W):
    """Rows of whole numbers times max/127, by raw mathematics; a row of zeros stays."""
    largest = np.abs(W).max(axis=tuple(range(1, W.ndim)), keepdims=True)
    scale = np.where(largest == 0, 1.0, largest / 127)
    return np.rint(W / scale) * scale


def conv_network():
    return psu.SpikingSequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        psu.PSU(1.5, 0.3),
        psu.Residual(nn.Conv2d(4, 4, 3, padding=1), psu.RPSU(T, 1.5, 0.3)),
        nn.Flatten(),
        nn.Linear(4 * 5 * 4, 6),
        psu.LIF(),
        psu.Lift(nn.Linear(6, 3)),
    )


def lively(model):
    """The same network with currents that make every layer fire."""
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.normal_(0.3, 2.0)
    return model


# -- what is replaced --------------------------------------------------------------------------------------------


@every_neuron
def test_a_table_and_8_bits(name):
    model = network(name)
    with torch.no_grad():
        model[0].weight[1] = 0.0
    before, neuron = copy.deepcopy(model), model[1]
    operators = {role: getattr(neuron, role, None) for role in ("integrate", "estimate", "reset")}
    psu.prepare(model, "lava")
    assert model[1] is neuron
    if name in ESTIMATES:
        assert type(neuron.estimator) is SigmoidTable
    elif isinstance(neuron, SpikingUnit):
        assert type(neuron.estimator) is nn.Identity
    assert all(getattr(neuron, role, None) is operator for role, operator in operators.items())
    assert neuron.horizon == before[1].horizon
    for index in (0, 2):
        W = before[index].weight.detach().double().numpy()
        np.testing.assert_allclose(model[index].weight.detach(), on_levels(W), rtol=1e-6)
        assert torch.equal(model[index].parametrizations.weight.original, before[index].weight)
        assert torch.equal(model[index].bias, before[index].bias)


@pytest.mark.parametrize("name", ESTIMATES)
def test_equals_its_matrices(name):
    """The prepared layer by raw mathematics: rounded weights, matrices, and the table."""
    model = psu.SpikingSequential(nn.Linear(4, 5, bias=False), NEURONS[name]()).double()
    W_in, learned = model[0].weight.detach().numpy().copy(), leak_matrix(T, 0.5, 0.5)
    if name != "psu":
        learned = np.tril(np.random.default_rng(3).normal(0.2, 0.8, (T, T)))
        (model[1].estimate if name == "rpsu" else model[1].integrate).set_matrix(learned)
    psu.prepare(model, "lava")
    x, A = currents(T, 3, (4,)) * 5, leak_matrix(T, 0.5, 0.5)
    current = np.einsum("tbi,oi->tbo", x, on_levels(W_in))
    V = np.einsum("ts,sbo->tbo", A if name == "rpsu" else learned, current)
    E = np.einsum("ts,sbo->tbo", A if name == "ipsu" else learned, current)
    knots = np.rint(4096 * scipy.special.expit(np.arange(65) / 4 - 8))
    place = np.clip(np.floor(1024 * E), -8192, 8191) / 256 + 32
    below = np.floor(place).astype(int)
    S = np.floor(knots[below] + (knots[below + 1] - knots[below]) * (place - below)) / 4096
    margin = V - np.einsum("ts,sbo->tbo", strict_leak_matrix(T, 1.0, 0.5), S) - 1.0
    fired = model(torch.from_numpy(x)).detach().numpy()
    assert 0 < fired.mean() < 1
    np.testing.assert_array_equal(fired, margin >= 0)


def test_a_staircase_stays():
    model = psu.SpikingSequential(nn.Linear(4, 4), psu.PSU(estimator=Staircase(7)))
    assert [layer.path for layer in psu.prepare(model, "lava").layers] == ["0"]
    assert model[1].estimator.levels == 7


@pytest.mark.parametrize("estimator", [nn.Tanh, nn.Sigmoid])
def test_an_estimator_that_nothing_looks_at_stays(estimator):
    unit = Own(Leak(0.5, 0.5), None, None, estimator())
    assert psu.prepare(unit, "lava").layers == ()
    assert type(unit.estimator) is estimator


def test_every_kind_of_layer_and_no_other():
    layers = [nn.Linear(2, 3), nn.Conv1d(2, 3, 2), nn.Conv2d(2, 3, 2), TimeConv1d(2, 3, 2), psu.Lift(nn.Linear(2, 3))]
    others = [nn.BatchNorm1d(2), nn.Embedding(2, 3), nn.ConvTranspose1d(2, 3, 2), psu.PSU()]
    report = psu.prepare(nn.ModuleList(layers + others), "lava")
    assert [layer.path for layer in report.layers] == ["0", "1", "2", "3.conv", "4.layer", "8"]


# -- what is kept ------------------------------------------------------------------------------------------------


@every_neuron
def test_twice_is_once(name):
    model = network(name)
    psu.prepare(model, "lava")
    before, modules = numbers(model), list(model.modules())
    report = psu.prepare(model, "lava")
    assert list(model.modules()) == modules, "the very same objects"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert str(report) == "ready for lava: nothing had to change"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype(dtype):
    model = network("rpsu").to(dtype)
    psu.prepare(model, "lava")
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model[0].weight.dtype == dtype
    assert model[1](model[0](torch.ones(T, 2, 4, dtype=dtype))).shape == (T, 2, 4)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_frozen_parameters(training):
    model = network("rpsu").train(training).requires_grad_(training)
    parameters = set(model.parameters())
    psu.prepare(model, "lava")
    assert {module.training for module in model.modules()} == {training}
    assert {parameter.requires_grad for parameter in model.parameters()} == {training}
    assert set(model.parameters()) == parameters, "an optimiser goes on with the very same objects"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device():
    model = network("rpsu").cuda()
    psu.prepare(model, "lava")
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cuda"}
    model(torch.ones(T, 2, 4, device="cuda"))


def test_every_weight_is_fine_tuned():
    model = lively(network("rpsu", "psu"))
    psu.prepare(model, "lava")
    model(torch.randn(T, 8, 4)).square().sum().backward()
    assert {key: bool((p.grad != 0).any()) for key, p in model.named_parameters()} == {
        key: True for key, _ in model.named_parameters()
    }


def test_hooks_go_on():
    model, calls = network("psu"), []
    for index in (0, 1):
        model[index].register_forward_hook(lambda module, *_: calls.append(module))
    psu.prepare(model, "lava")
    model(torch.ones(T, 1, 4))
    assert calls == [model[0], model[1]]


# -- structure ---------------------------------------------------------------------------------------------------


def test_a_layer_in_two_places_is_one():
    layer, neuron = nn.Linear(4, 4), psu.PSU()
    model = psu.SpikingSequential(layer, neuron, layer, neuron)
    assert [row.path for row in psu.prepare(model, "lava").layers] == ["0", "1"]
    assert model[0] is model[2]
    assert len(model[0].parametrizations.weight) == 1


def test_layers_that_share_a_weight_go_on_sharing_it():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    psu.prepare(psu.SpikingSequential(first, psu.PSU(), second), "lava")
    assert first.parametrizations.weight.original is second.parametrizations.weight.original
    assert torch.equal(first.weight, second.weight)


def test_behind_a_parametrization_that_is_there_already():
    """Weight norm makes the weight, 8 bits round it; both are learned on."""
    model = psu.SpikingSequential(parametrizations.weight_norm(nn.Linear(4, 3)), psu.PSU())
    W = model[0].weight.detach().double().numpy()
    psu.prepare(model, "lava")
    np.testing.assert_allclose(model[0].weight.detach(), on_levels(W), rtol=1e-6)
    assert psu.prepare(model, "lava").layers == ()


@every_neuron
def test_the_structure_alone(name):
    """What a prepared network is loaded into."""
    model, fresh = network(name), network(name)
    psu.prepare(model, "lava")
    prepare_structure(fresh, "lava", 15, None)
    fresh.load_state_dict(model.state_dict())
    x = torch.from_numpy(currents(T, 2, (4,))).float()
    assert torch.equal(fresh(x), model(x))


def test_a_copy_is_a_model_of_its_own():
    model = network("rpsu")
    psu.prepare(model, "lava")
    copied, x = copy.deepcopy(model), torch.from_numpy(currents(T, 2, (4,))).float()
    expected = model(x)
    with torch.no_grad():
        model[0].parametrizations.weight.original.zero_()
    assert torch.equal(copied(x), expected)


@pytest.mark.full
def test_on_to_nir():
    """Tables become staircases, the weights keep their 8 bits."""
    model = network("psu", "rpsu")
    psu.prepare(model, "lava")
    report = psu.prepare(model, "nir", exponentials=2)
    assert [layer.path for layer in report.layers] == ["1", "3"]
    assert report.layers[0].replaced == ("estimator: SigmoidTable -> Staircase(15)",)
    assert any(isinstance(step, Int8Weight) for step in model[0].parametrizations.weight)
    assert psu.to_state_machine(model, (4,)).max_steps is None
    assert psu.prepare(model, "lava").layers == (), "a staircase stays"


# -- the report --------------------------------------------------------------------------------------------------


def test_the_report():
    model = network("psu", "lif")
    with torch.no_grad():
        model[2].weight.zero_()
    W = model[0].weight.detach().double().numpy()
    report = psu.prepare(model, "lava")
    error = np.abs(on_levels(W) - W).max() / np.abs(W).max()
    first, second, third, last = report.layers
    assert [layer.path for layer in report.layers] == ["0", "1", "2", "4"]
    assert (first.replaced, second.replaced) == (
        ("weight -> 8 bits per channel",),
        ("estimator: Sigmoid -> SigmoidTable",),
    )
    assert first.weight_error == pytest.approx(error, rel=1e-4)
    assert 0 < error < 1 / 254
    assert third.weight_error == 0.0
    assert last.weight_error > 0
    assert (first.table_error, second.weight_error, second.staircase_error) == (None, None, None)
    assert second.table_error == pytest.approx(0.00118, abs=1e-5)
    title, head, *rows, end = str(report).splitlines()
    assert title == "prepared for lava: 4 layer(s) changed"
    assert re.split(r"  +", head.strip()) == ["path", "sigmoid off by", "weight off by", "replaced"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "4"]
    assert re.split(r"  +", rows[0].strip()) == ["0", "-", f"{error:.2%}", "weight -> 8 bits per channel"]
    assert rows[1].split()[1:3] == ["0.0012", "-"]
    assert end == "fine-tune before you export"


# -- afterwards --------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("make", [lambda: network("psu", "ipsu", "rpsu", "lif"), conv_network], ids=["dense", "conv"])
def test_module_machine_and_onnx_fire_alike(make, tmp_path):
    model = lively(make())
    features = (2, 5, 4) if isinstance(model[0], nn.Conv2d) else (4,)
    x = torch.randn(T, 8, *features)
    with torch.no_grad():
        model(x)  # statistics for the BatchNorm
    psu.prepare(model.eval(), "lava")
    report = psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=features), x)
    assert report.ok
    assert report.spike_flips == 0
    assert len(report.comparisons) == 2
    assert all(0.005 < layer.firing_rate < 0.995 for layer in report.comparisons[0].layers)


# -- refusals ----------------------------------------------------------------------------------------------------


def refused(model):
    """The problems, by path; and nothing has changed."""
    before, modules = numbers(model), list(model.modules())
    with pytest.raises(UnsupportedModelError) as raised:
        psu.prepare(model, "lava")
    assert list(model.modules()) == modules
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "cannot prepare the model for lava: " in str(raised.value)
    return {problem.path: problem for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("neuron", "reason", "remedy"),
    [
        (psu.SPSN, "fires at random, and lava has no noise", "train with PSU or LIF"),
        (lambda: psu.PSN(T), "looks ahead", "train with IPSU, RPSU or SlidingPSN"),
        (lambda: psu.MaskedPSN(T, 3, 0.5), r"lambda_ = 0.5 < 1", "finish the masking"),
        (lambda: Own(Leak(1.0, 0.5), Identity(), StrictLeak(1.0, 0.5), nn.Tanh()), "Tanh", "psu.SigmoidTable"),
    ],
)
def test_what_cannot_be_prepared(neuron, reason, remedy):
    problems = refused(psu.SpikingSequential(nn.Linear(4, 4), psu.PSU(), nn.Linear(4, 4), neuron()))
    assert list(problems) == ["3"]
    assert reason in problems["3"].reason
    assert remedy in problems["3"].remedy


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's, about the hook that is under test
def test_a_weight_that_a_hook_computes():
    problems = refused(psu.SpikingSequential(psu.PSU(), weight_norm(nn.Linear(4, 4))))
    assert list(problems) == ["1"]
    assert problems["1"].reason == "its weight is no parameter: a hook computes it"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_changes_nothing(number):
    model = network("psu", "rpsu")
    with torch.no_grad():
        model[2].weight[1, 2] = number
    modules = list(model.modules())
    with pytest.raises(InputError, match="the weight of '2' holds NaN or infinity"):
        psu.prepare(model, "lava")
    assert list(model.modules()) == modules
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 7}, "levels is for a staircase, and lava has a table of the sigmoid: leave levels out, got 7"),
        ({"exponentials": 4}, "lava keeps T x T matrices as they are: leave exponentials out, got 4"),
        ({"levels": 0}, "levels must be a whole number in 1..255, got 0"),
        ({"exponentials": 2.0}, "exponentials must be a whole number, got 2.0"),
    ],
)
def test_arguments(arguments, message):
    model = network("psu")
    with pytest.raises(InputError, match=message):
        psu.prepare(model, "lava", **arguments)
    assert type(model[0]) is nn.Linear
    assert type(model[1].estimator) is nn.Sigmoid


def test_a_model_without_neurons():
    with pytest.raises(InputError, match="no neuron of psu_deploy in this Sequential: nothing to prepare for lava"):
        psu.prepare(nn.Sequential(nn.Linear(2, 2)), "lava")
