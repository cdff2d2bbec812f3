"""Poolings folded into weights compute what torch computes layer by layer, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import event, given, settings
from hypothesis import strategies as st

from psu_deploy.errors import Refusal
from psu_deploy.exporters.integers import folding
from psu_deploy.exporters.integers.real_network import RealConv
from psu_deploy.machine import ops

EXACT = {"rtol": 0, "atol": 1e-12}
"""Two orders of summation of a hundred float64 products of size 1."""


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# -- the mathematics, by torch ---------------------------------------------------------------------------------------


def torch_pool(pool, x):
    """A pooling of the machine over (B, C, H, W) or (B, C, L)."""
    x = torch.from_numpy(x)
    axes = len(pool.kernel)
    pads = [n for pair in reversed(pool.padding) for n in pair]
    mean = F.avg_pool1d if axes == 1 else F.avg_pool2d
    padded = F.pad(x, pads)
    y = mean(padded, pool.kernel, pool.stride)
    if isinstance(pool, ops.SumPool):
        y = y * float(np.prod(pool.kernel))
    elif not pool.count_padding:
        y = y / mean(F.pad(torch.ones_like(x), pads), pool.kernel, pool.stride)
    return y.numpy()


def torch_conv(conv, x):
    """A convolution as Lava has it, by torch, over (B, C, H, W)."""
    weight, bias = torch.from_numpy(np.array(conv.weight)), torch.from_numpy(np.array(conv.bias))
    return F.conv2d(torch.from_numpy(x), weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups).numpy()


def torch_layer(layer, x):
    """A convolution of the machine, by torch: any padding."""
    pads = [n for pair in reversed(layer.padding) for n in pair]
    bias = None if layer.bias is None else torch.from_numpy(np.array(layer.bias))
    convolve = F.conv1d if isinstance(layer, ops.Conv1d) else F.conv2d
    padded, weight = F.pad(torch.from_numpy(x), pads), torch.from_numpy(np.array(layer.weight))
    return convolve(padded, weight, bias, layer.stride, 0, layer.dilation, layer.groups).numpy()


# -- networks --------------------------------------------------------------------------------------------------------

pads = st.tuples(st.integers(0, 2), st.integers(0, 2))
ones = st.integers(1, 3)


@st.composite
def pools(draw, largest=3, padded=True):
    """A mean or a sum of any window, as a machine has it; its padding as uneven as one likes."""
    kernel, stride = (draw(st.tuples(st.integers(1, largest), st.integers(1, largest))) for _ in range(2))
    padding = draw(st.tuples(pads, pads)) if padded and draw(st.booleans()) else ((0, 0), (0, 0))
    kind = draw(st.sampled_from(["mean", "mean that does not count its padding", "sum"]))
    return (
        ops.SumPool(kernel, stride, padding) if kind == "sum" else ops.AvgPool(kernel, stride, padding, kind == "mean")
    )


def counted(pool):
    """Whether padding counts, or there is none."""
    return isinstance(pool, ops.SumPool) or pool.count_padding or not any(map(any, pool.padding))


@st.composite
def images(draw):
    return (draw(st.sampled_from([2, 4])), draw(st.integers(1, 9)), draw(st.integers(1, 9)))


@st.composite
def convolutions(draw, channels, evenly=True):
    groups = draw(st.sampled_from([1, 2]))
    kernel = draw(st.tuples(ones, ones))
    weight = normal(2 * groups, channels // groups, *kernel, seed=draw(st.integers(0, 99)))
    stride, dilation = draw(st.tuples(ones, ones)), draw(st.tuples(ones, ones))
    bias = normal(len(weight), seed=7)
    if evenly:
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        return RealConv(weight, bias, stride, padding, dilation, groups)
    return ops.Conv2d(weight, bias, stride, draw(st.tuples(pads, pads)), dilation, groups)


def pooled(pool, shape):
    """Size by counting windows, or None where none fits."""
    sizes = []
    for n, k, s, p in zip(shape[1:], pool.kernel, pool.stride, pool.padding, strict=True):
        starts = range(0, n + sum(p) - k + 1, s)
        if not len(starts):
            return None
        sizes.append(len(starts))
    return (shape[0], *sizes)


def convolved(conv, shape):
    """The same of a convolution."""
    sizes = []
    for n, k, s, p, d in zip(shape[1:], conv.weight.shape[2:], conv.stride, conv.padding, conv.dilation, strict=True):
        starts = range(0, n + 2 * p - d * (k - 1), s)
        if not len(starts):
            return None
        sizes.append(len(starts))
    return (len(conv.weight), *sizes)


def full(pool, x):
    """No window may lie in the padding alone where padding does not count: nothing over nothing."""
    if counted(pool):
        return True
    return np.isfinite(torch_pool(pool, x)).all()


class TestTwoAxes:
    @pytest.mark.full
    @settings(max_examples=150)
    @given(st.data())
    def test_any_padding_becomes_even(self, data):
        shape = data.draw(images())
        layer = data.draw(convolutions(shape[0], evenly=False))
        x = normal(2, *shape)
        found = folding.two_axes(layer)
        try:
            expected = torch_layer(layer, x)
        except RuntimeError:  # the kernel is larger than the image
            return
        np.testing.assert_allclose(torch_conv(found, x), expected, **EXACT)
        assert folding.conv_size(found, shape) == expected.shape[2:]
        event(f"even: {all(a == b for a, b in layer.padding)}")

    def test_even_padding_stays_as_it_is(self):
        layer = ops.Conv2d(normal(2, 2, 3, 2), None, (2, 1), ((1, 1), (2, 2)), (1, 3), 1)
        found = folding.two_axes(layer)
        np.testing.assert_array_equal(found.weight, layer.weight)
        np.testing.assert_array_equal(found.bias, np.zeros(2))
        assert (found.stride, found.padding, found.dilation, found.groups) == ((2, 1), (1, 2), (1, 3), 1)

    def test_what_lacks_in_steps_of_the_dilation_needs_no_spreading(self):
        layer = ops.Conv2d(normal(2, 2, 1, 3), None, (1, 1), ((0, 0), (0, 2)), (1, 2), 1)
        assert folding.two_axes(layer).weight.shape == (2, 2, 1, 4)
        assert folding.two_axes(layer).dilation == (1, 2)

    def test_else_the_kernel_is_spread(self):
        layer = ops.Conv2d(normal(2, 2, 1, 3), None, (1, 1), ((0, 0), (0, 1)), (1, 2), 1)
        assert folding.two_axes(layer).weight.shape == (2, 2, 1, 6)
        assert folding.two_axes(layer).dilation == (1, 1)

    @pytest.mark.full
    @settings(max_examples=60)
    @given(ones, ones, ones, pads, st.integers(4, 9), st.sampled_from([1, 2]))
    def test_one_axis_is_an_image_of_height_one(self, kernel, stride, dilation, padding, length, groups):
        layer = ops.Conv1d(normal(4, 4 // groups, kernel), normal(4), (stride,), (padding,), (dilation,), groups)
        x = normal(2, 4, length)
        if length + sum(padding) < dilation * (kernel - 1) + 1:
            return
        found = torch_conv(folding.two_axes(layer), x[:, :, None])
        np.testing.assert_allclose(found[:, :, 0], torch_layer(layer, x), **EXACT)
        assert found.shape[2] == 1


class TestPoolAsConv:
    @pytest.mark.full
    @settings(max_examples=150)
    @given(st.data())
    def test_is_the_pooling(self, data):
        shape, pool = data.draw(images()), data.draw(pools())
        size = pooled(pool, shape)
        if size is None or not counted(pool):
            return
        x = normal(2, *shape)
        conv = folding.pool_as_conv(pool, shape[0])
        np.testing.assert_allclose(torch_conv(conv, x), torch_pool(pool, x), **EXACT)
        assert conv.groups == shape[0]
        assert not conv.bias.any()
        assert (shape[0], *folding.pooled_size(pool, shape)) == size

    def test_one_axis(self):
        pool = ops.AvgPool((3,), (2,), ((1, 2),))
        x = normal(2, 3, 8)
        found = torch_conv(folding.pool_as_conv(pool, 3), x[:, :, None])
        np.testing.assert_allclose(found[:, :, 0], torch_pool(pool, x), **EXACT)

    def test_a_maximum_of_spikes_is_a_sum_above_nothing(self):
        x = (np.random.default_rng(0).random((3, 2, 7, 6)) < 0.2).astype(float)
        pool = ops.MaxPool((3, 2), (2, 1), ((1, 1), (0, 1)))
        expected = F.max_pool2d(F.pad(torch.from_numpy(x), (0, 1, 1, 1)), (3, 2), (2, 1)).numpy()
        found = torch_conv(folding.pool_as_conv(pool, 2), x)
        np.testing.assert_array_equal(found > 0, expected > 0)
        np.testing.assert_array_equal(found, np.rint(found))

    def test_a_mean_that_does_not_count_its_padding_is_none(self):
        pool = ops.AvgPool((2, 2), (2, 2), ((1, 1), (0, 0)), count_padding=False)
        with pytest.raises(Refusal, match="AvgPool that does not count its padding") as error:
            folding.pool_as_conv(pool, 2)
        assert "count_include_pad=True" in error.value.remedy

    def test_a_mean_without_padding_has_none_to_count(self):
        pool = ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)), count_padding=False)
        x = normal(1, 2, 4, 4)
        np.testing.assert_allclose(torch_conv(folding.pool_as_conv(pool, 2), x), torch_pool(pool, x), **EXACT)


class TestIntoDense:
    @pytest.mark.full
    @settings(max_examples=200)
    @given(st.data())
    def test_is_the_pooling_and_then_the_weights(self, data):
        shape, pool = data.draw(images()), data.draw(pools())
        size, x = pooled(pool, shape), normal(3, *shape)
        if size is None or not full(pool, x):
            return
        weight = normal(4, int(np.prod(size)))
        expected = torch_pool(pool, x).reshape(3, -1) @ weight.T
        found = x.reshape(3, -1) @ folding.into_dense(weight, pool, shape).T
        np.testing.assert_allclose(found, expected, **EXACT)
        event(f"padding counts: {counted(pool)}")

    def test_one_axis(self):
        pool, x = ops.AvgPool((3,), (2,), ((1, 0),), count_padding=False), normal(3, 2, 8)
        expected = torch_pool(pool, x).reshape(3, -1)
        weight = normal(4, expected.shape[1])
        found = x.reshape(3, -1) @ folding.into_dense(weight, pool, (2, 1, 8)).T
        np.testing.assert_allclose(found, expected @ weight.T, **EXACT)

    def test_what_no_window_reaches_has_no_weight(self):
        """A remainder that does not fill a window."""
        wide = folding.into_dense(normal(2, 4), ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0))), (1, 5, 5))
        assert not wide.reshape(2, 5, 5)[:, 4].any()
        assert not wide.reshape(2, 5, 5)[:, :, 4].any()
        assert wide.reshape(2, 5, 5)[:, :4, :4].all()

    def test_ceil_mode(self):
        """A machine has it as padding behind that does not count."""
        pool, x = ops.AvgPool((2, 2), (2, 2), ((0, 1), (0, 1)), count_padding=False), normal(3, 2, 5, 7)
        expected = F.avg_pool2d(torch.from_numpy(x), 2, ceil_mode=True).numpy().reshape(3, -1)
        weight = normal(4, expected.shape[1])
        found = x.reshape(3, -1) @ folding.into_dense(weight, pool, (2, 5, 7)).T
        np.testing.assert_allclose(found, expected @ weight.T, **EXACT)


class TestIntoConv:
    @pytest.mark.full
    @settings(max_examples=400)
    @given(st.data())
    def test_exact_or_none(self, data):
        """None exactly where a zero that the convolution pads would be no zero, were the pooling to go on there."""
        shape, pool = data.draw(images()), data.draw(pools())
        size = pooled(pool, shape)
        if size is None:
            return
        conv = data.draw(convolutions(shape[0]))
        if convolved(conv, size) is None:
            return
        x = normal(2, *shape)
        found = folding.into_conv(conv, pool, shape)
        event(f"folded: {found is not None}")
        assert (found is None) == (not counted(pool) or self.goes_on(conv, pool, shape, size))
        if found is not None:
            np.testing.assert_allclose(torch_conv(found, x), torch_conv(conv, torch_pool(pool, x)), **EXACT)

    @staticmethod
    def goes_on(conv, pool, shape, size):
        """Whether a window of the pooling where the convolution pads would see the image, counted window by window."""
        for axis in (0, 1):
            k, q, p, outer = pool.kernel[axis], pool.stride[axis], pool.padding[axis][0], conv.padding[axis]
            outside = [*range(-outer, 0), *range(size[axis + 1], size[axis + 1] + outer)]
            if any(0 <= at * q - p + u < shape[axis + 1] for at in outside for u in range(k)):
                return True
        return False

    @pytest.mark.parametrize("count_padding", [True, False])
    def test_the_usual_pair_is_always_folded(self, count_padding):
        """A pooling without padding, and a convolution without."""
        pool = ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)), count_padding)
        for size in range(2, 9):
            conv = RealConv(normal(3, 2, 1, 1), normal(3), (1, 1), (0, 0), (1, 1), 1)
            x = normal(1, 2, size, size)
            found = folding.into_conv(conv, pool, (2, size, size))
            np.testing.assert_allclose(torch_conv(found, x), torch_conv(conv, torch_pool(pool, x)), **EXACT)

    def test_a_padded_convolution_over_windows_that_tile_the_image_is_folded(self):
        pool = ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)))
        conv = RealConv(normal(3, 2, 3, 3), normal(3), (1, 1), (1, 1), (1, 1), 1)
        x = normal(2, 2, 8, 8)
        found = folding.into_conv(conv, pool, (2, 8, 8))
        assert found is not None
        np.testing.assert_allclose(torch_conv(found, x), torch_conv(conv, torch_pool(pool, x)), **EXACT)

    @pytest.mark.parametrize(
        ("kernel", "size"),
        [((3, 3), 8), ((2, 2), 9)],
        ids=["windows overlap", "a remainder is left"],
    )
    def test_a_padded_convolution_over_other_windows_is_not(self, kernel, size):
        pool = ops.AvgPool(kernel, (2, 2), ((0, 0), (0, 0)))
        conv = RealConv(normal(3, 2, 3, 3), normal(3), (1, 1), (1, 1), (1, 1), 1)
        assert folding.into_conv(conv, pool, (2, size, size)) is None

    def test_padding_that_does_not_count_is_not(self):
        pool = ops.AvgPool((2, 2), (2, 2), ((1, 1), (0, 0)), count_padding=False)
        conv = RealConv(normal(3, 2, 1, 1), normal(3), (1, 1), (0, 0), (1, 1), 1)
        assert folding.into_conv(conv, pool, (2, 8, 8)) is None


class TestBehindConv:
    @pytest.mark.full
    @settings(max_examples=200)
    @given(st.data())
    def test_is_the_convolution_and_then_the_pooling(self, data):
        shape = data.draw(images())
        conv, pool = data.draw(convolutions(shape[0])), data.draw(pools(padded=False))
        size = convolved(conv, shape)
        if size is None or pooled(pool, size) is None:
            return
        x = normal(2, *shape)
        found = folding.behind_conv(conv, pool)
        np.testing.assert_allclose(torch_conv(found, x), torch_pool(pool, torch_conv(conv, x)), **EXACT)

    def test_one_axis(self):
        layer, pool = (
            ops.Conv1d(normal(3, 2, 3), normal(3), (2,), ((1, 2),), (2,), 1),
            ops.AvgPool((2,), (2,), ((0, 0),)),
        )
        x = normal(2, 2, 14)
        found = torch_conv(folding.behind_conv(folding.two_axes(layer), pool), x[:, :, None])
        np.testing.assert_allclose(found[:, :, 0], torch_pool(pool, torch_layer(layer, x)), **EXACT)

    @pytest.mark.parametrize("pad", [((1, 1), (0, 0)), ((0, 0), (0, 1))])
    @pytest.mark.parametrize("count_padding", [True, False])
    def test_a_padded_pooling_is_refused(self, pad, count_padding):
        conv = RealConv(normal(2, 2, 1, 1), normal(2), (1, 1), (0, 0), (1, 1), 1)
        with pytest.raises(Refusal, match="a padded pooling between weights and neuron") as error:
            folding.behind_conv(conv, ops.AvgPool((2, 2), (2, 2), pad, count_padding))
        assert "without padding" in error.value.remedy

    def test_a_mean_keeps_the_bias_and_a_sum_multiplies_it(self):
        conv = RealConv(normal(2, 2, 1, 1), np.array([1.0, -2.0]), (1, 1), (0, 0), (1, 1), 1)
        none = ((0, 0), (0, 0))
        np.testing.assert_allclose(folding.behind_conv(conv, ops.AvgPool((2, 3), (2, 3), none)).bias, [1.0, -2.0])
        np.testing.assert_allclose(folding.behind_conv(conv, ops.SumPool((2, 3), (2, 3), none)).bias, [6.0, -12.0])
