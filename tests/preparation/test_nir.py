"""psu.prepare: what it replaces and by what, that it is all or nothing, and what it says."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture import trace_module
from psu_deploy.errors import InputError, MissingExtraError, UnsupportedModelError
from psu_deploy.nn.neurons import SpikingUnit, Staircase
from psu_deploy.nn.temporal import CausalMatrix, Exponentials, Identity, Leak, SlidingWindow, StrictLeak
from psu_deploy.preparation import prepare_structure
from tests.helpers import ROUNDING, Array, currents, leak_matrix, strict_leak_matrix

T = 9
FREE = {"psu": psu.PSU, "lif": psu.LIF, "plif": psu.PLIF, "sliding_psn": lambda: psu.SlidingPSN(3)}
BOUND = {
    "ipsu": lambda: psu.IPSU(T),
    "ipsu_current": lambda: psu.IPSU(T, reset_input="current"),
    "rpsu": lambda: psu.RPSU(T),
    "ppsu": lambda: psu.PPSU(T),
    "masked_psn": lambda: psu.MaskedPSN(T),
}
NEURONS = FREE | BOUND
HELD = {
    "ipsu": "integrate",
    "ipsu_current": "integrate",
    "rpsu": "estimate",
    "ppsu": "integrate",
    "masked_psn": "integrate",
}
every_neuron = pytest.mark.parametrize("name", NEURONS)
bound_neurons = pytest.mark.parametrize("name", BOUND)


def network(*names: str) -> nn.Module:
    layers = [layer for name in names for layer in (nn.Linear(4, 4), NEURONS[name]())]
    return psu.SpikingSequential(*layers, nn.Linear(4, 2))


def two_leaks(steps: int = T) -> Array:
    """What two exponentials can be, exactly."""
    return leak_matrix(steps, 0.75, 0.75) - leak_matrix(steps, 0.25, 0.25)


def numbers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- what is replaced --------------------------------------------------------------------------------------------


@pytest.mark.full
@every_neuron
def test_no_sigmoid_and_no_horizon_is_left(name):
    model = network(name)
    psu.prepare(model, "nir", exponentials=3)
    neuron = model[1]
    assert neuron.horizon is None
    assert not any(isinstance(module, nn.Sigmoid) for module in model.modules())
    if name in ("psu", "ipsu", "rpsu", "ppsu"):
        assert isinstance(neuron.estimator, Staircase)
        assert neuron.estimator.levels == 15
    elif isinstance(neuron, SpikingUnit):
        assert type(neuron.estimator) is nn.Identity
    if name in BOUND:
        assert isinstance(getattr(neuron, HELD[name]), Exponentials)
    assert psu.to_state_machine(model, (4,)).max_steps is None


@bound_neurons
def test_an_exact_sum_is_found(name):
    """1e-4: two leaks are found to within the price of gains, in float32."""
    model = network(name)
    neuron = model[1]
    getattr(neuron, HELD[name]).set_matrix(two_leaks(), np.zeros(T) if name == "masked_psn" else None)
    report = psu.prepare(model, exponentials=2)
    operator = getattr(neuron, HELD[name])
    np.testing.assert_allclose(operator.matrix(T), two_leaks(), atol=1e-4)
    np.testing.assert_allclose(operator.matrix(3 * T), two_leaks(3 * T), atol=1e-4)
    assert report.layers[0].fit_error < 1e-4


@bound_neurons
def test_the_rest_of_the_neuron_stays(name):
    model = network(name)
    before = copy.deepcopy(model[1])
    psu.prepare(model, exponentials=2)
    after = model[1]
    assert (after.threshold, after.fire_on, after.surrogate) == (before.threshold, before.fire_on, before.surrogate)
    if name == "rpsu":
        np.testing.assert_array_equal(after.integrate.matrix(T), before.integrate.matrix(T))
    if name.startswith("ipsu"):
        np.testing.assert_array_equal(after.estimate.matrix(T), before.estimate.matrix(T))
    if before.reset is not None:
        np.testing.assert_array_equal(after.reset.matrix(T), before.reset.matrix(T))


@pytest.mark.full
@pytest.mark.parametrize("name", ["ipsu", "rpsu", "ppsu"])
@pytest.mark.parametrize("levels", [3, 14])
def test_equals_its_matrices(name, levels):
    """The prepared neuron by raw mathematics: fitted numbers in matrices, thresholds counted."""
    neuron = BOUND[name]().double()
    getattr(neuron, HELD[name]).set_matrix(np.tril(np.random.default_rng(3).normal(0.2, 0.8, (T, T))))
    psu.prepare(neuron, levels=levels, exponentials=3)
    operator = getattr(neuron, HELD[name])
    gains, logits = operator.gains.detach().numpy(), operator.decay_logits.detach().numpy()
    W = sum(leak_matrix(T, g, d) for g, d in zip(gains, scipy.special.expit(logits), strict=True))
    A, current = leak_matrix(T, 0.5, 0.5), currents(T, 3, (5,))
    flat = current.reshape(T, -1)
    V = (A if name == "rpsu" else W) @ flat
    E = (A if name == "ipsu" else W) @ flat
    edges = scipy.special.logit(np.arange(1, levels + 1) / (levels + 1)).astype(np.float32).astype(np.float64)
    edges[np.abs(edges) < 1e-6] = np.float32(0.001)
    stairs = ((E[..., None] >= edges).sum(-1) + 0.5) / (levels + 1)
    margin = (V - strict_leak_matrix(T, 1.0, 0.5) @ stairs - 1.0).reshape(current.shape)
    np.testing.assert_array_equal(neuron(torch.from_numpy(current)).detach(), margin >= 0)


@pytest.mark.rows(5)
@pytest.mark.full
@every_neuron
@pytest.mark.parametrize("steps", [1, 2, 9, 63])
def test_the_machine_fires_alike(name, steps):
    model = network(name, name).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    psu.prepare(model, exponentials=3)
    machine = psu.to_state_machine(model, (4,))
    x = torch.from_numpy(np.random.default_rng(2).normal(0.5, 3.0, (steps, 4, 4)))
    ours, serial = trace_module(model, machine, x), machine.trace(x)
    for layer in machine.spiking:
        assert torch.equal(ours.spikes[layer], serial.spikes[layer])
        np.testing.assert_allclose(ours.margin[layer], serial.margin[layer], **ROUNDING)


# -- biases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ipsu", "rpsu", "ppsu", "masked_psn"])
def test_a_bias_per_step_becomes_its_mean(name):
    bias = np.linspace(-1.0, 2.0, T)
    neuron = NEURONS[name]()
    getattr(neuron, HELD[name]).set_matrix(two_leaks(), bias)
    report = psu.prepare(neuron, exponentials=2)
    np.testing.assert_allclose(getattr(neuron, HELD[name]).bias(3), [0.5] * 3, atol=1e-6)
    assert report.layers[0].bias_error == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize("unit", [psu.IPSU, psu.RPSU, psu.PPSU])
def test_a_bias_is_learned_on_where_it_was_learned(unit):
    for bias in (False, True):
        neuron = unit(T, bias=bias)
        psu.prepare(neuron, exponentials=2)
        operator = next(module for module in neuron.modules() if isinstance(module, Exponentials))
        assert (operator.offset is not None) == bias


# -- what is kept ------------------------------------------------------------------------------------------------


@every_neuron
def test_twice_is_once(name):
    model = network(name)
    psu.prepare(model, exponentials=2)
    before, modules = numbers(model), list(model.modules())
    report = psu.prepare(model, exponentials=2)
    assert list(model.modules()) == modules, "the very same objects"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert report.layers == ()
    assert str(report) == "ready for nir: nothing had to change"


def test_what_is_prepared_needs_no_exponentials():
    model = network("rpsu")
    psu.prepare(model, exponentials=2)
    psu.prepare(model)


def test_another_number_of_levels_is_put_in():
    model = network("psu")
    psu.prepare(model, levels=15)
    report = psu.prepare(model, levels=7)
    assert model[1].estimator.levels == 7
    assert report.layers[0].replaced == ("estimator: Staircase(15) -> Staircase(7)",)


@bound_neurons
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype(name, dtype):
    model = network(name).to(dtype)
    psu.prepare(model, exponentials=2)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model[1](torch.ones(T, 2, 4, dtype=dtype)).shape == (T, 2, 4)


@bound_neurons
@pytest.mark.parametrize("training", [True, False])
def test_mode_and_frozen_parameters(name, training):
    model = network(name).train(training).requires_grad_(training)
    psu.prepare(model, exponentials=2)
    assert {module.training for module in model.modules()} == {training}
    assert {parameter.requires_grad for parameter in model.parameters()} == {training}


@bound_neurons
def test_it_can_be_fine_tuned(name):
    """Every number that took the place of a matrix gets a gradient."""
    neuron = BOUND[name]()
    psu.prepare(neuron, exponentials=2)
    neuron(torch.from_numpy(currents(T, 4, (5,))).float()).sum().backward()
    assert {key: bool((p.grad != 0).any()) for key, p in neuron.named_parameters()} == {
        key: True for key, _ in neuron.named_parameters()
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@bound_neurons
def test_device(name):
    model = network(name).cuda()
    psu.prepare(model, exponentials=2)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cuda"}
    model(torch.ones(T, 2, 4, device="cuda"))


def test_torch_s_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = network("rpsu")
    torch.manual_seed(5)
    psu.prepare(model, exponentials=2)
    assert torch.equal(torch.rand(3), expected)


# -- structure ---------------------------------------------------------------------------------------------------


def test_a_neuron_itself():
    neuron = psu.RPSU(T)
    assert psu.prepare(neuron, exponentials=2).layers[0].path == "(root)"
    assert neuron.horizon is None


def test_a_neuron_in_two_places_is_one():
    neuron = psu.RPSU(T)
    model = psu.SpikingSequential(nn.Linear(4, 4), neuron, nn.Linear(4, 4), neuron)
    assert [layer.path for layer in psu.prepare(model, exponentials=2).layers] == ["1"]
    assert model[1] is model[3]


class Own(SpikingUnit):
    """A neuron somebody else wrote; `estimate` and `integrate` may be one object."""

    def __init__(self, integrate, estimate, reset, estimator=None):
        super().__init__(1.0, ">=", None)
        self.integrate, self.estimate, self.reset = integrate, estimate, reset
        self.estimator = nn.Sigmoid() if estimator is None else estimator


def test_operators_that_are_one_stay_one():
    matrix = CausalMatrix(T)
    first, second = Own(matrix, matrix, StrictLeak(1.0, 0.5)), Own(matrix, Identity(), StrictLeak(1.0, 0.5))
    psu.prepare(nn.ModuleList([first, second]), exponentials=2)
    assert first.integrate is first.estimate is second.integrate
    assert isinstance(first.integrate, Exponentials)


@pytest.mark.full
def test_every_role_is_looked_at():
    unit = Own(CausalMatrix(T), CausalMatrix(T, gain=0.25, decay=0.75), CausalMatrix(T))
    unit.reset.set_matrix(strict_leak_matrix(T, 1.0, 0.5))
    report = psu.prepare(unit, exponentials=2)
    assert report.layers[0].replaced == (
        "estimator: Sigmoid -> Staircase(15)",
        "integrate: CausalMatrix(9) -> Exponentials(2)",
        "estimate: CausalMatrix(9) -> Exponentials(2)",
        "reset: CausalMatrix(9) -> Exponentials(2)",
    )
    np.testing.assert_allclose(unit.estimate.matrix(T), leak_matrix(T, 0.25, 0.75), atol=1e-5)
    np.testing.assert_allclose(unit.reset.matrix(T), strict_leak_matrix(T, 1.0, 0.5), atol=1e-3)


def test_what_is_the_same_at_every_step_stays():
    operators = Leak(0.5, 0.5), SlidingWindow(3), StrictLeak(1.0, 0.5)
    unit = Own(*operators)
    psu.prepare(unit)
    assert (unit.integrate, unit.estimate, unit.reset) == operators


def test_an_estimator_that_nothing_looks_at_stays():
    unit = Own(Leak(0.5, 0.5), None, None)
    assert psu.prepare(unit).layers == ()
    assert type(unit.estimator) is nn.Sigmoid


@pytest.mark.full
@every_neuron
def test_the_structure_alone(name):
    """What a prepared network is loaded into; nothing is fitted, scipy is not needed."""
    model, fresh = network(name), network(name)
    psu.prepare(model, levels=7, exponentials=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "scipy.optimize", None)
        prepare_structure(fresh, "nir", 7, 3)
    fresh.load_state_dict(model.state_dict())
    x = torch.from_numpy(currents(T, 2, (4,))).float()
    assert torch.equal(fresh(x), model(x))


# -- the report --------------------------------------------------------------------------------------------------


def test_the_report():
    """Two layers, each with its own row; the errors by raw mathematics."""
    model = network("psu", "rpsu", "lif")
    random = np.tril(np.random.default_rng(1).normal(0.2, 0.8, (T, T)))
    model[3].estimate.set_matrix(random)
    report = psu.prepare(model, exponentials=2)
    operator = model[3].estimate
    fitted = sum(leak_matrix(T, g, d) for g, d in zip(operator.gains.tolist(), operator.decays.tolist(), strict=True))
    error = np.linalg.norm(fitted - random) / np.linalg.norm(random)
    E = np.linspace(-40, 40, 400_001)
    distance = np.abs(Staircase(15)(torch.from_numpy(E)).numpy() - scipy.special.expit(E)).max()
    first, second = report.layers
    assert (first.path, first.replaced) == ("1", ("estimator: Sigmoid -> Staircase(15)",))
    assert (first.fit_error, first.bias_error) == (None, None)
    assert second.path == "3"
    assert second.replaced[1] == "estimate: CausalMatrix(9) -> Exponentials(2)"
    assert second.fit_error == pytest.approx(error, rel=1e-5)
    for layer in report.layers:
        assert layer.staircase_error == pytest.approx(distance, abs=1e-4)
    title, head, *rows, end = str(report).splitlines()
    assert title == "prepared for nir: 2 layer(s) changed"
    assert end == "fine-tune before you export"
    assert head.split("  ")[1] == "path"
    assert [row.split()[0] for row in rows] == ["1", "3"]
    assert f"{error:.2%}" in rows[1]
    assert "estimator: Sigmoid -> Staircase(15); estimate: CausalMatrix(9) -> Exponentials(2)" in rows[1]


# -- refusals ----------------------------------------------------------------------------------------------------


def refused(model, **options):
    """The problems, by path; and nothing has changed."""
    before, modules = numbers(model), list(model.modules())
    with pytest.raises(UnsupportedModelError) as raised:
        psu.prepare(model, "nir", **options)
    assert list(model.modules()) == modules
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "cannot prepare the model for nir: " in str(raised.value)
    return {problem.path: problem for problem in raised.value.problems}


def test_matrices_need_a_number_of_exponentials():
    problems = refused(network("psu", "rpsu", "lif", "ipsu", "ppsu", "masked_psn"))
    assert list(problems) == ["3", "7", "9", "11"]
    assert [problem.kind for problem in problems.values()] == ["RPSU", "IPSU", "PPSU", "MaskedPSN"]
    for path, role in (("3", "estimate"), ("7", "integrate"), ("9", "integrate"), ("11", "integrate")):
        assert problems[path].reason == f"{role} has a matrix of 9 steps; nir does not count steps"
        assert problems[path].remedy == 'psu.prepare(model, target="nir", exponentials=4), then fine-tune'


@pytest.mark.parametrize(
    ("neuron", "reason", "remedy"),
    [
        (psu.SPSN, "fires at random, and nir has no noise", "train with PSU or LIF"),
        (lambda: psu.PSN(T), "looks ahead", "train with IPSU, RPSU or SlidingPSN"),
        (lambda: psu.MaskedPSN(T, 3, 0.5), r"lambda_ = 0.5 < 1", "finish the masking"),
        (lambda: Own(Leak(1.0, 0.5), Identity(), StrictLeak(1.0, 0.5), nn.Tanh()), "Tanh", "use torch.nn.Sigmoid"),
    ],
)
def test_what_cannot_be_prepared(neuron, reason, remedy):
    model = psu.SpikingSequential(nn.Linear(4, 4), psu.PSU(), nn.Linear(4, 4), neuron())
    problems = refused(model, exponentials=4)
    assert list(problems) == ["3"]
    assert reason in problems["3"].reason
    assert remedy in problems["3"].remedy


def test_a_matrix_that_cannot_be_fitted_changes_nothing():
    model = network("psu", "rpsu")
    with torch.no_grad():
        model[3].estimate.entries[2] = float("nan")
    modules = list(model.modules())
    with pytest.raises(InputError, match="matrix must be finite"):
        psu.prepare(model, exponentials=2)
    assert list(model.modules()) == modules


def test_scipy_comes_with_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    model = network("psu", "rpsu")
    modules = list(model.modules())
    with pytest.raises(MissingExtraError, match="'nir' extra"):
        psu.prepare(model, exponentials=2)
    assert list(model.modules()) == modules
    psu.prepare(network("psu"))  # no matrix, no fit, no scipy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "loihi"}, "target must be one of nir, lava, got 'loihi'"),
        ({"target": None}, "target must be one of nir, lava, got None"),
        ({"levels": 0}, "levels must be a whole number in 1..255, got 0"),
        ({"levels": 256}, "levels must be a whole number in 1..255, got 256"),
        ({"levels": 1.5}, "levels must be a whole number, got 1.5"),
        ({"exponentials": 0}, "exponentials is a number of terms and must be at least 1, got 0"),
        ({"exponentials": 2.0}, "exponentials must be a whole number, got 2.0"),
    ],
)
def test_arguments(arguments, message):
    model = network("psu")
    with pytest.raises(InputError, match=message):
        psu.prepare(model, **arguments)
    assert type(model[1].estimator) is nn.Sigmoid


def test_a_model_without_neurons():
    with pytest.raises(InputError, match="no neuron of psu_deploy in this Sequential: nothing to prepare for nir"):
        psu.prepare(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.full
def test_the_masking_of_a_prepared_neuron_is_complete():
    neuron = psu.MaskedPSN(T)
    psu.prepare(neuron, exponentials=2)
    neuron.lambda_ = 1.0
    assert neuron.lambda_ == 1.0
    with pytest.raises(InputError, match=r"lambda_ must stay 1: psu.prepare has replaced the masked matrix; got 0.5"):
        neuron.lambda_ = 0.5
