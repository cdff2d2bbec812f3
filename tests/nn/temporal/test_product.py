"""Products in tiles against the whole matrix in float64 numpy, around the sizes of the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

from psu_deploy.nn.temporal import CausalMatrix, CausalOperator, MaskedMatrix, SlidingWindow, product
from psu_deploy.nn.temporal.product import NARROW, WIDE, Band, causal_product
from tests.helpers import ROUNDING, Array, apply, lag_matrix, toeplitz

LENGTHS = [NARROW, NARROW + 1, WIDE, WIDE + 1, 2 * WIDE + 3]
ORDERS = [1, 3, NARROW + 1, WIDE + 1]
"""Bands of one tile, of two and of more; one that is wider than the sequence is the whole triangle."""

KINDS = ["matrix", "sliding", "masked"]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def operator_of(kind: str, T: int, order: int) -> tuple[CausalOperator, Array]:
    """In float64, with its matrix."""
    lag, k = lag_matrix(T), min(order, T)
    band = (lag >= 0) & (lag < k)
    if kind == "sliding":
        sliding, weights = SlidingWindow(order).double(), random(order)
        with torch.no_grad():
            sliding.weight.copy_(torch.from_numpy(weights))
        return sliding, toeplitz(T, weights[:T])
    W = random(T, T)
    operator = CausalMatrix(T, order=k).double() if kind == "matrix" else MaskedMatrix(T, k).double()
    operator.set_matrix(np.where(band, W, 0.0) if kind == "matrix" else W)
    return operator, np.where(band, W, 0.0)


def gradient_of_numbers(operator: CausalOperator, outer: Array) -> Array:
    """What g x^T means for the numbers that are learned."""
    T = len(outer)
    lag = lag_matrix(T)
    if isinstance(operator, SlidingWindow):
        return np.array([np.trace(outer, -step) if step < T else 0.0 for step in range(operator.order)])
    band = (lag >= 0) & (lag < operator.order)
    return outer[band] if isinstance(operator, CausalMatrix) else np.where(band, outer, 0.0)


@pytest.mark.rows(12)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways(kind, T, order):
    """1e-10: sums of a thousand products."""
    operator, matrix = operator_of(kind, T, order)
    x, g = torch.from_numpy(random(T, 2, 3, seed=1)).requires_grad_(), random(T, 2, 3, seed=2)
    y = operator.product(x)
    y.backward(torch.from_numpy(g))
    learned = next(operator.parameters()).grad
    outer = np.einsum("ibf,jbf->ij", g, x.detach().numpy())
    close = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(y.detach(), apply(matrix, x.detach().numpy()), **close)
    np.testing.assert_allclose(x.grad, apply(matrix.T, g), **close)
    np.testing.assert_allclose(learned, gradient_of_numbers(operator, outer), **close)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wide_batch(kind):
    """More columns than are multiplied at a time, and no multiple of them; with the bias."""
    T, width = NARROW + 5, product.WIDTH + 7
    operator, matrix = operator_of(kind, T, 3)
    x = random(T, width)
    expected = apply(matrix, x) + operator.bias(T).numpy()[:, None]
    np.testing.assert_allclose(operator(torch.from_numpy(x)).detach(), expected, **ROUNDING)


@pytest.mark.parametrize("order", [4, 200])
def test_what_is_outside_is_not_touched(order):
    """NaN further than a tile above the diagonal or below the band, and nothing of it in any result."""
    T = 200
    lag, band = torch.arange(T)[:, None] - torch.arange(T), Band(order)
    matrix = torch.where((lag > -band.block) & (lag < order + band.block), lag.double().tril(), torch.nan)
    matrix = torch.where((lag >= 0) & (lag < order), matrix, torch.where(matrix.isnan(), matrix, 0.0)).requires_grad_()
    x = torch.ones(T, 1, dtype=torch.float64, requires_grad=True)
    y = causal_product(matrix, x, band)
    y.sum().backward()
    assert matrix.isnan().any()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    far = (lag >= order + band.block) | (lag <= -band.block)
    assert not matrix.grad[far].any()


def test_a_window_needs_no_matrix_of_all_steps():
    assert Band(32, invariant=True).side(4096) == NARROW + 31
    assert Band(32, invariant=True).side(5) == 5


@pytest.fixture
def small_tiles(monkeypatch):
    """Two or three rows, so that seven steps have several."""
    for name, size in (("NARROW", 2), ("WIDE", 3), ("WIDTH", 2)):
        monkeypatch.setattr(product, name, size)


small = pytest.mark.usefixtures("small_tiles")


@small
@pytest.mark.full
@pytest.mark.parametrize("order", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_derivatives(kind, order):
    operator, _ = operator_of(kind, 5, order)
    names, parameters = zip(
        *((name, p.detach().requires_grad_()) for name, p in operator.named_parameters()), strict=True
    )
    x = torch.from_numpy(random(5, 3)).requires_grad_()

    def call(x, *values):
        return functional_call(operator, dict(zip(names, values, strict=True)), x).square()

    assert torch.autograd.gradcheck(call, (x, *parameters))
    assert torch.autograd.gradgradcheck(call, (x, *parameters))


@small
@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_under_transforms(kind):
    operator, matrix = operator_of(kind, 5, 3)
    x = torch.from_numpy(random(5, 2, 2))
    plain = torch.autograd.functional.jacobian(operator, x)
    torch.testing.assert_close(jacrev(operator)(x), plain, rtol=1e-12, atol=1e-12)
    bias = operator.bias(5).view(5, 1)
    for dim in range(2):
        several = torch.stack([x[:, 0], x[:, 1]], dim)
        expected = torch.from_numpy(np.stack([matrix @ x[:, i].numpy() for i in range(2)], dim)) + bias.unsqueeze(dim)
        torch.testing.assert_close(vmap(operator, in_dims=dim, out_dims=dim)(several), expected, rtol=1e-12, atol=1e-12)


@small
@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_for_every_sample(kind):
    operator, _ = operator_of(kind, 7, 3)
    x = torch.from_numpy(random(7, 4, 2))

    def loss(parameters, x):
        return functional_call(operator, parameters, (x[:, None],)).square().sum()

    together = vmap(grad(loss), in_dims=(None, 1))(dict(operator.named_parameters()), x)
    for sample in range(4):
        operator.zero_grad()
        operator(x[:, sample : sample + 1]).square().sum().backward()
        for name, parameter in operator.named_parameters():
            torch.testing.assert_close(together[name][sample], parameter.grad, rtol=1e-12, atol=1e-12)


@small
@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble(kind):
    members = [operator_of(kind, 7, 3)[0] for _ in range(2)]
    with torch.no_grad():
        next(members[1].parameters()).mul_(2.0)
    x = torch.from_numpy(random(7, 2, 2))
    together = vmap(lambda p, b: functional_call(members[0], (p, b), (x,)))(*stack_module_state(members))
    expected = torch.stack([member(x) for member in members])
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)


@small
@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does it itself
@pytest.mark.parametrize("kind", KINDS)
def test_as_one_graph(kind):
    """What torch.compile traces, without generating code."""
    operator, _ = operator_of(kind, 7, 3)
    x = torch.from_numpy(random(7, 2, 2))
    torch._dynamo.reset()
    compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), operator(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_every_time(kind):
    operator, _ = operator_of(kind, 200, 70)
    x = torch.from_numpy(random(200, 5))
    results = []
    for _ in range(2):
        operator.zero_grad()
        y = operator(x)
        y.square().sum().backward()
        results.append((y, *(p.grad for p in operator.parameters())))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


@pytest.mark.full
def test_spikingjelly_slides_alike():
    """Over many tiles, spikes and gradients: theirs multiplies with a matrix of all steps."""
    jelly = pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import neuron, surrogate

    from psu_deploy.nn.neurons import SlidingPSN

    assert jelly
    T, order = 200, 32
    theirs = neuron.SlidingPSN(order, surrogate_function=surrogate.ATan(), step_mode="m").double()
    ours = SlidingPSN(order).double()
    weights = torch.from_numpy(random(order))
    with torch.no_grad():
        theirs.weight.copy_(weights.flip(0))
        ours.integrate.weight.copy_(weights)
    results = []
    for unit in (theirs, ours):
        x = torch.from_numpy(random(T, 3, 5)).requires_grad_()
        spikes = unit(x)
        (spikes * torch.from_numpy(random(T, 3, 5, seed=1))).sum().backward()
        results.append((spikes, x.grad))
    assert 0 < results[0][0].mean() < 1
    assert torch.equal(results[0][0], results[1][0])
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(results[1][1], results[0][1], **close)
    torch.testing.assert_close(ours.integrate.weight.grad.flip(0), theirs.weight.grad, **close)
    torch.testing.assert_close(ours.integrate.step_bias.grad, theirs.bias.grad, **close)
