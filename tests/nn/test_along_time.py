"""TimeConv1d, Static, Hold and DirectEncoding as modules: sums over lags in numpy, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.nn.along_time import DirectEncoding, Hold, Static, TimeConv1d
from tests.helpers import ROUNDING


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def convolved(x, layer):
    """y[t] = sum_l W[:, :, l] x[t + lookahead - (k-1) + l] + b, nothing outside the sequence."""
    weight = layer.conv.weight.detach().numpy()
    outputs, per_group, kernel = weight.shape
    y = np.zeros((*x.shape[:2], outputs))
    for t, o, i, lag in np.ndindex(len(x), outputs, per_group, kernel):
        s, feature = t + layer.lookahead - (kernel - 1) + lag, o // (outputs // layer.conv.groups) * per_group + i
        if 0 <= s < len(x):
            y[t, :, o] += weight[o, i, lag] * x[s, :, feature]
    return y if layer.conv.bias is None else y + layer.conv.bias.detach().numpy()


@pytest.mark.parametrize("T", [1, 2, 63])
@pytest.mark.parametrize(
    ("kernel", "lookahead", "groups", "bias"),
    [(1, 0, 1, True), (3, 0, 1, True), (3, 1, 2, False), (3, 2, 1, True), (5, 4, 4, True), (4, 2, 1, False)],
)
def test_time_conv(T, kernel, lookahead, groups, bias):
    layer = TimeConv1d(4, 8, kernel, lookahead=lookahead, groups=groups, bias=bias).double()
    x = normal(T, 3, 4)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach(), convolved(x, layer), **ROUNDING)


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_time_conv_looks_no_further_than_it_says(lookahead):
    layer, x = TimeConv1d(2, 2, 3, lookahead=lookahead), torch.from_numpy(normal(8, 1, 2)).float()
    for t in range(8):
        changed = x.clone()
        changed[t] += 1.0
        differs = (layer(changed) != layer(x)).flatten(1).any(1).nonzero().flatten().tolist()
        assert differs == list(range(max(0, t - lookahead), min(8, t - lookahead + 3)))


@pytest.mark.parametrize("lookahead", [-1, 3, 10])
def test_look_ahead_lies_within_the_kernel(lookahead):
    with pytest.raises(InputError, match=r"lookahead must lie in 0..2 \(kernel_size - 1\), got"):
        TimeConv1d(2, 2, 3, lookahead=lookahead)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 3, 3)])
def test_time_conv_needs_one_axis_of_features(shape):
    with pytest.raises(InputError, match=r"TimeConv1d needs a sequence \(T, B, features\), got shape"):
        TimeConv1d(3, 3, 2)(torch.zeros(shape))


def test_time_conv_gradients():
    layer, x = TimeConv1d(2, 3, 3, lookahead=1).double(), torch.from_numpy(normal(5, 2, 2)).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_hold():
    x = torch.from_numpy(normal(5, 2, 3)).requires_grad_()
    y = Hold()(x)
    assert torch.equal(y, x[:1].repeat(5, 1, 1))
    y.sum().backward()
    assert x.grad[0].eq(5).all()
    assert not x.grad[1:].any()


@pytest.mark.parametrize("t", [1, 4])
def test_static_refuses_what_changes(t):
    x = torch.ones(5, 2, 3)
    assert Static()(x) is x
    x[t, 1, 2] += 1e-6
    with pytest.raises(InputError, match=r"must be the same at every step: x\[t\] = image for all t"):
        Static()(x)


def test_direct_encoding_is_its_layers_on_the_image():
    layers = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()
    image = torch.from_numpy(normal(4, 2, 5, 5)).float()
    encoded = DirectEncoding(*layers).eval()(image.expand(6, *image.shape))
    torch.testing.assert_close(encoded, nn.Sequential(*layers).eval()(image).expand(6, -1, -1, -1, -1))
