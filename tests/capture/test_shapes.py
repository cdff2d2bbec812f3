"""Convolutions, pools, and what resamples, pads and rearranges: as layers, against the module or function itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture.axes import SEQUENCE, STEP, whole
from psu_deploy.capture.layers import FUNCTIONS, STATELESS
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import Node, StateMachine, ops
from tests.helpers import axes_of

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Two float32 sums of at most a hundred products of size 1."""


def run(layers, x):
    """Some layers one after the other, (B, *features)."""
    chain = layers if isinstance(layers, tuple) else (layers,)
    names = ["x", *map(str, range(len(chain)))]
    nodes = [Node(name, layer, (before,)) for before, name, layer in zip(names, names[1:], chain, strict=False)]
    machine = StateMachine(tuple(nodes), tuple(x.shape[1:]))
    return machine.run(x.numpy()[None])[0]


def kinds(layers):
    return [type(layer).__name__ for layer in (layers if isinstance(layers, tuple) else (layers,))]


def example(features, batch=3):
    return torch.randn(batch, *features, generator=torch.Generator().manual_seed(0))


MODULES = {
    "Conv3d": (nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 2), groups=2), (2, 3, 4, 5)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2), (4, 5)),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, (3, 2), stride=2, dilation=(1, 2), bias=False), (2, 3, 4)),
    "Conv1d reflect": (nn.Conv1d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 5)),
    "Conv2d replicate": (nn.Conv2d(2, 3, 3, stride=2, padding=(1, 2), padding_mode="replicate"), (2, 4, 5)),
    "Conv2d circular": (nn.Conv2d(2, 3, 3, padding=(2, 0), padding_mode="circular"), (2, 4, 5)),
    "Conv1d reflect, same": (nn.Conv1d(2, 3, 4, padding="same", padding_mode="reflect"), (2, 5)),
    "AvgPool3d": (nn.AvgPool3d(2, stride=1, padding=1, count_include_pad=False), (2, 3, 4, 3)),
    "MaxPool3d": (nn.MaxPool3d((1, 2, 3), padding=(0, 1, 1)), (2, 2, 4, 5)),
    "AdaptiveAvgPool1d uneven": (nn.AdaptiveAvgPool1d(3), (2, 7)),
    "AdaptiveAvgPool2d uneven": (nn.AdaptiveAvgPool2d((3, None)), (2, 7, 5)),
    "AdaptiveAvgPool2d larger": (nn.AdaptiveAvgPool2d((7, 2)), (2, 3, 4)),
    "AdaptiveAvgPool3d": (nn.AdaptiveAvgPool3d(2), (2, 4, 5, 2)),
    "AdaptiveMaxPool1d": (nn.AdaptiveMaxPool1d(2), (2, 6)),
    "AdaptiveMaxPool1d uneven": (nn.AdaptiveMaxPool1d(3), (2, 7)),
    "AdaptiveMaxPool2d uneven": (nn.AdaptiveMaxPool2d((5, 2)), (2, 7, 5)),
    "AdaptiveMaxPool2d one axis": (nn.AdaptiveMaxPool2d((None, 3)), (2, 3, 5)),
    "AdaptiveMaxPool3d": (nn.AdaptiveMaxPool3d((1, 3, 2)), (2, 3, 4, 5)),
    "Upsample nearest": (nn.Upsample(scale_factor=2), (2, 3, 4)),
    "Upsample nearest, odd": (nn.Upsample(scale_factor=1.7), (2, 5)),
    "Upsample nearest to a size": (nn.Upsample(size=(7, 3)), (2, 3, 5)),
    "Upsample nearest-exact": (nn.Upsample(size=(7, 3), mode="nearest-exact"), (2, 3, 5)),
    "Upsample linear": (nn.Upsample(size=7, mode="linear"), (2, 4)),
    "Upsample bilinear": (nn.Upsample(scale_factor=(2, 1.5), mode="bilinear"), (2, 3, 4)),
    "Upsample bilinear, corners": (nn.Upsample(size=(5, 8), mode="bilinear", align_corners=True), (2, 3, 4)),
    "Upsample bilinear, recomputed": (
        nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        (2, 3, 4),
    ),
    "Upsample bicubic": (nn.Upsample(size=(5, 3), mode="bicubic"), (2, 4, 5)),
    "Upsample bicubic by a factor": (nn.Upsample(scale_factor=(1.5, 2.0), mode="bicubic"), (2, 4, 5)),
    "Upsample trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), (2, 2, 3, 2)),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d(scale_factor=3), (2, 2, 3)),
    "UpsamplingBilinear2d": (nn.UpsamplingBilinear2d(size=(4, 4)), (2, 2, 3)),
    "PixelShuffle": (nn.PixelShuffle(2), (8, 3, 2)),
    "PixelUnshuffle": (nn.PixelUnshuffle(3), (2, 3, 6)),
    "ChannelShuffle": (nn.ChannelShuffle(3), (6, 2, 2)),
    "ZeroPad2d": (nn.ZeroPad2d((1, 0, 2, 3)), (2, 3, 4)),
    "ZeroPad2d that cuts off": (nn.ZeroPad2d((-1, 2, 0, -2)), (2, 4, 4)),
    "ConstantPad1d": (nn.ConstantPad1d((2, 1), -0.5), (2, 3)),
    "ReflectionPad2d": (nn.ReflectionPad2d((1, 2, 0, 1)), (2, 3, 4)),
    "ReplicationPad1d": (nn.ReplicationPad1d((2, 1)), (2, 3)),
    "CircularPad2d": (nn.CircularPad2d((1, 0, 2, 1)), (2, 3, 4)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_its_layers(name):
    module, features = MODULES[name]
    x = example(features)
    with torch.no_grad():
        expected = module(x)
    np.testing.assert_allclose(run(STATELESS[type(module)](module, features), x), expected.numpy(), **CLOSE)


@pytest.mark.parametrize(
    ("module", "features"),
    [(nn.Upsample(scale_factor=1), (2, 3)), (nn.Upsample(size=3, mode="linear"), (2, 3)), (nn.ZeroPad2d(0), (2, 3, 3))],
)
def test_what_changes_nothing_is_no_layer(module, features):
    assert STATELESS[type(module)](module, features) is None


def test_what_only_moves_numbers_computes_nothing():
    """No matrix where an index does."""
    moves = {"Reshape", "Permute", "Take"}
    for name in ("Upsample nearest, odd", "PixelShuffle", "ReflectionPad2d", "ChannelShuffle"):
        module, features = MODULES[name]
        assert set(kinds(STATELESS[type(module)](module, features))) <= moves


WEIGHT, BIAS = torch.randn(4, 2, 3), torch.randn(4)
KERNEL, TURNED = torch.randn(4, 1, 3, 2), torch.randn(4, 3, 2, 2)
MATRIX = torch.randn(5, 3)
MEAN, VARIANCE = torch.randn(3), torch.rand(3) + 0.5

CALLS = {
    "linear": (F.linear, (2, 3), (MATRIX, torch.randn(5)), {}),
    "conv1d": (F.conv1d, (2, 7), (WEIGHT, BIAS), {"padding": "same"}),
    "conv2d": (F.conv2d, (2, 5, 6), (KERNEL, None, (1, 2), 1, 2, 2), {}),
    "conv3d": (F.conv3d, (2, 3, 4, 5), (torch.randn(3, 2, 2, 2, 2),), {"stride": 2}),
    "conv_transpose1d": (F.conv_transpose1d, (4, 5), (torch.randn(4, 2, 3), None, 2, 1, 1, 2), {}),
    "conv_transpose2d": (F.conv_transpose2d, (4, 3, 3), (TURNED, torch.randn(3)), {"stride": (2, 1)}),
    "avg_pool1d": (F.avg_pool1d, (2, 6), (2,), {}),
    "avg_pool2d": (F.avg_pool2d, (2, 6, 5), (3,), {"stride": 1, "padding": 1, "count_include_pad": False}),
    "max_pool1d": (F.max_pool1d, (2, 6), (3, 2, 1), {}),
    "max_pool2d": (F.max_pool2d, (2, 6, 5), (2,), {}),
    "adaptive_avg_pool2d": (F.adaptive_avg_pool2d, (2, 6, 5), ((3, 2),), {}),
    "adaptive_max_pool2d": (F.adaptive_max_pool2d, (2, 6, 5), (2,), {}),
    "interpolate": (F.interpolate, (2, 3, 4), (), {"scale_factor": 2}),
    "interpolate bilinear": (F.interpolate, (2, 3, 4), ((6, 5),), {"mode": "bilinear", "align_corners": False}),
    "interpolate to less": (F.interpolate, (2, 8, 9), ((3, 4),), {"mode": "bilinear", "antialias": True}),
    "interpolate by areas": (F.interpolate, (2, 8, 9), ((3, 4),), {"mode": "area"}),
    "pad": (F.pad, (2, 3), ((1, 2),), {}),
    "pad with a number": (F.pad, (2, 3), ((0, 0, 1, 2), "constant", 0.5), {}),
    "pad, circular": (F.pad, (2, 3), ((1, 2),), {"mode": "circular"}),
    "pad, cut off": (F.pad, (2, 3), ((-1, -1),), {}),
    "batch_norm": (F.batch_norm, (3, 4), (MEAN, VARIANCE, MEAN, None), {"eps": 0.1}),
    "flip": (torch.flip, (2, 3, 4), ((1, -1),), {}),
    "flip by a method": ("flip", (2, 3, 4), (2, 3), {}),
    "roll": (torch.roll, (2, 3, 4), (1, -1), {}),
    "roll two axes": ("roll", (2, 3, 4), ((1, -2), (1, 3)), {}),
    "repeat_interleave": (torch.repeat_interleave, (2, 3), (2,), {"dim": 1}),
    "pixel_shuffle": (F.pixel_shuffle, (4, 2, 3), (2,), {}),
    "pixel_unshuffle": (F.pixel_unshuffle, (1, 2, 4), (2,), {}),
}
"""Name -> function or method, features, what else it takes."""


@pytest.mark.parametrize("name", CALLS)
def test_a_function_is_its_layers(name):
    function, features, arguments, options = CALLS[name]
    x = example(features)
    call = getattr(torch.Tensor, function) if isinstance(function, str) else function
    layers = FUNCTIONS[function](Value(x, "x", axes_of(x, STEP)), *arguments, **options)
    np.testing.assert_allclose(run(layers, x), call(x, *arguments, **options).numpy(), **CLOSE)


REFUSED = {
    "flip of the batch": (torch.flip, (2, 3), ((0,),), "works over axis 0"),
    "roll of everything": (torch.roll, (2, 3), (1,), "rolls over all axes at once"),
    "pad of the batch": (F.pad, (3,), ((0, 0, 1, 0),), "pads time or batch"),
    "reflection backwards": (F.pad, (2, 5), ((1, -1), "reflect"), "reflect padding by a negative number"),
    "norm of the batch": (F.batch_norm, (3,), (None, None, None, None, True), "depends on the batch"),
    "conv without channels": (F.conv1d, (7,), (WEIGHT,), "needs channels and 1 more axes"),
    "pool with its places": (F.adaptive_max_pool1d, (2, 7), (3, True), "return_indices"),
    "own numbers of repeats": (torch.repeat_interleave, (2, 3), (torch.tensor([1, 2]), 1), "its own number of times"),
    "pixels of a row": (F.pixel_shuffle, (4, 2), (2,), "needs features"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    function, features, arguments, reason = REFUSED[name]
    with pytest.raises(Refusal, match=reason):
        FUNCTIONS[function](Value(example(features), "x", (*STEP, *whole(features))), *arguments)


@pytest.mark.parametrize(
    ("function", "features", "arguments"),
    [
        (F.interpolate, (3, 4), (6,)),
        (F.max_pool1d, (6,), (2,)),
    ],
)
def test_a_batch_is_no_channels(function, features, arguments):
    """Of (T, B, ...) torch takes B for the channels."""
    x = torch.randn(4, 3, *features)
    with pytest.raises(Refusal):
        FUNCTIONS[function](Value(x, "x", axes_of(x, SEQUENCE)), *arguments)


def test_a_window_that_is_shorter_repeats_its_end():
    """Windows of three and four: none of the numbers in between is made up."""
    take, reshape, reduce = STATELESS[nn.AdaptiveMaxPool1d](nn.AdaptiveMaxPool1d(2), (1, 7))
    assert (take.indices, reshape.shape) == ((0, 1, 2, 3, 3, 4, 5, 6), (1, 2, 4))
    assert isinstance(reduce, ops.Reduce)
