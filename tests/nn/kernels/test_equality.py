"""Spikes in one pass are those of the steps, bit for bit; gradients are those of float64, but for rounding."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psu_deploy.nn.kernels import step_by_step
from psu_deploy.nn.neurons import LIF, PLIF, PSU, RPSU
from psu_deploy.nn.temporal import Exponentials
from tests.amount import tries
from tests.helpers import RawNeuron, leak_matrix, sigmoid, strict_leak_matrix
from tests.nn.kernels.neurons import ALL, LOOPS, SURROGATES, UNITS, both, currents, learned, trained

N = 4, 16
"""64 neurons: torch's sigmoid is vectorised over all of them, and has no remainder that it would round otherwise."""


def distance(a, b):
    """Relative to the largest."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


@pytest.mark.rows(8)
@pytest.mark.parametrize("T", [1, 2, 63])
@pytest.mark.parametrize("name", ALL)
def test_every_neuron(name, T):
    """Spikes of the steps, and gradients of the steps; of a sum that cancels they are as far off as float32 is."""
    surrogate = SURROGATES[T % len(SURROGATES)]
    neuron = learned(ALL[name](T, surrogate=surrogate))
    (fused, gradients), (steps, expected) = both(neuron, currents(T, *N), currents(T, *N, seed=1))
    assert torch.equal(fused, steps)
    assert T == 1 or 0 < float(fused.detach().mean()) < 1
    assert distance(gradients["x"], expected["x"]) < 5e-7
    assert gradients.keys() == expected.keys()


class Unknown:
    """A surrogate that no kernel knows: the margin itself comes back from it."""

    def derivative(self, margin):
        self.margin = margin
        return torch.ones_like(margin)


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", UNITS)
def test_margins(name):
    """What decides, in its last bit: a spike shows it at a knife edge only."""
    neuron, x = learned(UNITS[name](63, surrogate=Unknown())), currents(63, *N).requires_grad_()
    neuron(x).sum().backward()
    with step_by_step():
        assert torch.equal(neuron.surrogate.margin, neuron.margin(x)[2])


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("unit", [LIF, PLIF])
def test_potentials_of_a_loop(unit, decay_input):
    """A threshold that is the largest potential of the steps to the last bit is met, and not exceeded."""
    x = currents(30, 1, 100) / 30
    highest = unit(2.7, 100.0, decay_input=decay_input).potentials(x)[0].detach().amax(0).flatten()
    for index, threshold in enumerate(highest.tolist()):
        met, exceeded = (unit(2.7, threshold, decay_input=decay_input, fire_on=on) for on in (">=", ">"))
        assert met(x[:, :, index : index + 1]).sum() >= 1
        assert not exceeded(x[:, :, index : index + 1]).any()


@pytest.mark.rows(6)
@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_gradients_in_float64(name, surrogate):
    """No further off than those of the steps in float32 (twice at most), or 5e-7 of the largest.

    On these currents every neuron fires as it does in float64.
    """
    T = 20
    neuron = learned(ALL[name](T, surrogate=surrogate))
    x, g = currents(T, *N, seed=4), currents(T, *N, seed=1)
    (spikes, gradients), (_, steps) = both(neuron, x, g)
    exactly, expected = trained(copy.deepcopy(neuron).double(), x.double(), g.double())
    assert torch.equal(spikes, exactly.float())
    for parameter in expected:
        limit = max(5e-7, 2 * distance(steps[parameter], expected[parameter]))
        assert distance(gradients[parameter], expected[parameter]) <= limit, parameter


@pytest.mark.full
@given(
    T=st.integers(1, 70),
    N=st.integers(1, 40),
    tau=st.floats(1.0, 50.0),
    threshold=st.floats(-1.0, 2.0),
    reset_gain=st.floats(-2.0, 2.0),
    ties=st.booleans(),
)
@settings(max_examples=tries(60))
def test_any_psu(T, N, tau, threshold, reset_gain, ties):
    """The raw T x T matrices in float64 are the judge: where they decide clearly, so does the kernel."""
    neuron = PSU(tau, threshold, reset_gain=reset_gain, fire_on=">=" if ties else ">")
    x = currents(T, 2, N, seed=T + N)
    (fused, gradients), (steps, expected) = both(neuron, x, currents(T, 2, N, seed=1))
    A, B = leak_matrix(T, 1 / tau, 1 - 1 / tau), strict_leak_matrix(T, reset_gain, 1 - 1 / tau)
    raw = RawNeuron(A, np.zeros(T), A, np.zeros(T), B, sigmoid, threshold, neuron.fire_on)
    margin = raw.margin(x.double().numpy())
    clear = np.abs(margin) > 1e-5
    np.testing.assert_array_equal(fused.detach().numpy()[clear], raw(x.double().numpy())[2][clear])
    np.testing.assert_array_equal(fused.detach().numpy()[clear], steps.detach().numpy()[clear])
    assert distance(gradients["x"], expected["x"]) < 5e-7


STRANGE = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40, -1e-40, 0.0, -0.0, 88.8, -88.8]


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", ALL)
def test_what_is_no_number(name):
    """NaN never fires, infinity does, and both are as infectious as they are in torch."""
    T = 12
    neuron, x = learned(ALL[name](T)), currents(T, 32, 4)
    places = torch.randint(T * 128, (300,), generator=torch.Generator().manual_seed(2))
    x.view(-1)[places] = torch.tensor(STRANGE).repeat(28)[:300]
    (fused, gradients), (steps, expected) = both(neuron, x, torch.ones_like(x))
    assert torch.equal(fused, steps)
    assert torch.equal(gradients["x"].isnan(), expected["x"].isnan())
    assert not fused[x.isnan()].any()


@pytest.mark.parametrize("name", ["psu", "psu_coded", "LIF-soft-True-True"])
def test_ties(name):
    """Dyadic currents meet the threshold exactly: tau = 2, V_th = 1, and a reset that is 0."""
    neuron = LIF(2.0, 1.0) if name in LOOPS else PSU(2.0, 1.0, reset_gain=0.0, fire_on=">" if "coded" in name else ">=")
    x = torch.tensor([2.0, 1.0, 0.0, 4.0])[:, None, None].expand(4, 1, 64)
    potentials = [1.0, 1.0, 0.5, 2.25] if name not in LOOPS else [1.0, 0.5, 0.25, 2.125]
    expected = torch.tensor([float(v > 1 or (v == 1 and name != "psu_coded")) for v in potentials])
    assert torch.equal(neuron(x)[:, 0, 0], expected)


@pytest.mark.parametrize(
    "view", [lambda x: x.transpose(1, 2), lambda x: x[:, ::2], lambda x: x[:, :1].expand(-1, 6, -1)]
)
@pytest.mark.parametrize("name", ["psu", "rpsu_exponentials", "PLIF-hard-True-False"])
def test_strided_input_and_gradient(name, view):
    neuron = learned(ALL[name](9))
    x, g = view(currents(9, 4, 64)), view(currents(9, 4, 64, seed=1))
    (fused, gradients), (steps, expected) = both(neuron, x, g)
    assert torch.equal(fused, steps)
    assert fused.is_contiguous()
    assert distance(gradients["x"], expected["x"]) < 5e-7


@pytest.mark.parametrize("name", ["psu", "rpsu_exponentials", "PLIF-hard-True-False"])
def test_nobody_in_the_batch(name):
    x = torch.zeros(5, 0, 3, requires_grad=True)
    spikes = ALL[name](5)(x)
    spikes.sum().backward()
    assert spikes.shape == x.grad.shape == (5, 0, 3)


@pytest.mark.parametrize("r", [1, 2, 7, 16])
def test_a_sum_of_exponentials(r):
    """Bit for bit the sums of torch, in the order of the terms; gradients against the matrix in float64.

    With more terms, or in the remainder that it does not vectorise, torch sums in another order.
    """
    random = np.random.default_rng(r)
    operator = Exponentials(random.normal(0, 1, r), random.uniform(0.05, 0.95, r))
    x, g = currents(70, 64), currents(70, 64, seed=1)
    (fused, gradients), (steps, _) = both(operator, x, g)
    assert torch.equal(fused, steps)
    exact = copy.deepcopy(operator).double()
    _, expected = trained(exact, x.double(), g.double())
    np.testing.assert_allclose(gradients["x"], exact.matrix(70).T @ g.double(), rtol=1e-5, atol=1e-4)
    for name in ("gains", "decay_logits"):
        assert distance(gradients[name], expected[name]) < 5e-6


@pytest.mark.full
def test_long_sequences_need_no_matrix():
    """T = 4096 with the memory of its input."""
    x = torch.randn(4096, 1, 8, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        spikes = PSU(50.0)(x)
    spikes.sum().backward()
    assert sum(kept.values()) == x.numel()


@pytest.mark.parametrize("name", ALL)
def test_what_is_kept_is_what_came_in(name):
    """At most the input and one product of it; a matrix, which all neurons share, is not counted."""
    x, kept = currents(16, 8, 64).requires_grad_(), {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    neuron = ALL[name](16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        neuron(x)
    large = [size for size in kept.values() if size >= x.untyped_storage().nbytes()]
    assert sum(large) <= 2 * x.untyped_storage().nbytes()


def test_gradients_do_not_depend_on_the_surrogate_being_known():
    """Another's surrogate is called in torch, on the margin that the kernel gives."""

    class Mine:
        def derivative(self, margin):
            return 1 / (1 + (torch.pi * margin) ** 2)

    x, g = currents(9, *N), currents(9, *N, seed=1)
    for make in (PSU, lambda **options: RPSU(9, **options)):
        ours, theirs = (trained(make(surrogate=s), x, g) for s in (None, Mine()))
        assert torch.equal(ours[0], theirs[0])
        assert distance(theirs[1]["x"], ours[1]["x"]) < 5e-7
