"""Weights of 8 bits: their levels, their gradient, and that the whole numbers survive a BatchNorm."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import psu_deploy as psu
from psu_deploy.nn.quantisation import Int8Weight

SHAPES = [(5, 7), (4, 3, 2), (6, 2, 3, 3), (3, 1)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def rounded(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers, and the scale of every channel, by loops over channels."""
    whole, scales = np.zeros_like(W), []
    for c, channel in enumerate(W):
        scales.append(np.abs(channel).max() / 127 or 1.0)
        whole[c] = np.rint(channel / scales[-1])
    return whole, np.array(scales).reshape(-1, *[1] * (W.ndim - 1))


@every_shape
def test_its_levels(shape):
    W = np.random.default_rng(0).normal(0, 3, shape)
    W[1] = 0.0
    W[2] *= 1e-30
    whole, scales = rounded(W)
    assert np.abs(whole).max() == 127
    found = Int8Weight()(torch.from_numpy(W)).numpy()
    np.testing.assert_allclose(found, whole * scales, rtol=1e-15)
    assert (np.abs(found - W) <= scales * 0.5000001).all()
    assert not found[1].any()


def test_half_a_level_is_rounded_to_even():
    W = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    assert Int8Weight()(W).tolist() == [[127.0, 0.0, 2.0, 2.0, -0.0, -2.0]]


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_whole_numbers_can_be_read_off(shape, dtype):
    """The largest is 127 in every channel, so it gives the scale back; twice is once."""
    W = torch.from_numpy(np.random.default_rng(1).normal(0, 1, shape)).to(dtype)
    found = Int8Weight()(W)
    assert found.dtype == dtype
    wide = found.double().numpy()
    ratio = wide / (np.abs(wide).max(tuple(range(1, W.ndim)), keepdims=True) / 127)
    np.testing.assert_allclose(ratio, rounded(W.double().numpy())[0], atol=1e-4)
    torch.testing.assert_close(Int8Weight()(found), found, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_from_float32(dtype):
    W = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(Int8Weight()(W), Int8Weight()(W.float()).to(dtype))


def test_what_is_no_number_stays_none():
    found = Int8Weight()(torch.tensor([[1.0, float("nan")], [127.0, 3.2]]))
    assert found[0].isnan().all()
    assert found[1].tolist() == [127.0, 3.0]


@every_shape
def test_the_gradient_passes_through(shape):
    W = torch.randn(shape, requires_grad=True)
    g = torch.randn(shape)
    Int8Weight()(W).backward(g)
    assert torch.equal(W.grad, g)


@pytest.mark.full
def test_it_learns():
    """Many steps, each far smaller than a level, add up."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(64, 6)
    wanted = x @ torch.randn(6, 4)
    parametrize.register_parametrization(layer, "weight", Int8Weight())
    optimiser = torch.optim.SGD(layer.parameters(), 0.02)
    losses = []
    for _ in range(400):
        loss = nn.functional.mse_loss(layer(x), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-2 * losses[0]
    assert not torch.equal(layer.weight, layer.parametrizations.weight.original)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), nn.BatchNorm1d, (6,)),
    "conv1d": (lambda: nn.Conv1d(2, 5, 3), nn.BatchNorm1d, (2, 6)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d, (4, 5, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_whole_numbers_survive_a_batch_norm(name, dtype):
    """Folded with scales of both signs, row by row; 1e-4: two roundings of float32, times 127."""
    make, norm, features = LAYERS[name]
    torch.manual_seed(0)
    layer = make()
    model = psu.SpikingSequential(layer, norm(layer.weight.shape[0]), psu.PSU()).to(dtype)
    with torch.no_grad():
        model[1].weight.normal_(0.0, 2.0)
        model[1].bias.normal_()
        for _ in range(5):
            model(3 * torch.randn(4, 8, *features, dtype=dtype) + 1)
    before = copy.deepcopy(layer.weight.detach()).double().numpy()
    psu.prepare(model, "lava")
    (folded, _) = psu.to_state_machine(model.eval(), features).nodes
    W, axes = folded.layer.weight, tuple(range(1, before.ndim))
    ratio = W / (np.abs(W).max(axes, keepdims=True) / 127)
    np.testing.assert_allclose(ratio, np.rint(ratio), atol=1e-4)
    signs = np.sign(model[1].weight.detach().numpy()).reshape(-1, *[1] * len(axes))
    assert set(signs.ravel()) == {-1.0, 1.0}
    np.testing.assert_array_equal(np.rint(ratio), signs * rounded(before)[0])
