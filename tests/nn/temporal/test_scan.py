"""Scans against their full matrices: forwards and backwards in time, step by step and in chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from psu_deploy.nn.temporal import Leak, StrictLeak
from psu_deploy.nn.temporal.scan import _chunked, _stepwise, leak_scan
from tests.helpers import ROUNDING, apply, leak_matrix, strict_leak_matrix

LENGTHS = [1, 2, 63, 64, 65, 130]
"""Around the chunk of 64 steps."""

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def matrix_of(T, gain, decay, strict):
    return (strict_leak_matrix if strict else leak_matrix)(T, gain, decay)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("scan", [_stepwise, _chunked])
def test_equals_the_matrix_or_its_transpose(scan, T, strict, backwards):
    x = normal(T, 2, 3)
    for gain, decay in [(0.5, 0.5), (1.5, 0.9), (-1.0, 1.0), (0.7, 0.0), (0.0, 0.5)]:
        matrix = matrix_of(T, gain, decay, strict)
        expected = apply(matrix.T if backwards else matrix, x)
        np.testing.assert_allclose(scan(torch.from_numpy(x), gain, decay, strict, backwards), expected, **ROUNDING)


@pytest.mark.full
@given(
    T=st.integers(1, 140),
    gain=st.floats(-3, 3),
    decay=st.floats(0, 1),
    strict=st.booleans(),
    backwards=st.booleans(),
    shape=st.lists(st.integers(1, 3), max_size=3),
)
@settings(max_examples=60)
def test_stepwise_equals_chunked(T, gain, decay, strict, backwards, shape):
    x = torch.from_numpy(normal(T, *shape, seed=T))
    step_by_step, in_chunks = (scan(x, gain, decay, strict, backwards) for scan in (_stepwise, _chunked))
    torch.testing.assert_close(step_by_step, in_chunks, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("T", [1, 65])
def test_gradient_is_the_transpose(T, strict, device):
    x, g = normal(T, 2, 3), normal(T, 2, 3, seed=1)
    matrix = matrix_of(T, 0.5, 0.75, strict)
    tensor = torch.from_numpy(x).to(device).requires_grad_()
    y = leak_scan(tensor, 0.5, 0.75, strict=strict)
    y.backward(torch.from_numpy(g).to(device))
    np.testing.assert_allclose(y.detach().cpu(), apply(matrix, x), **ROUNDING)
    np.testing.assert_allclose(tensor.grad.cpu(), apply(matrix.T, g), **ROUNDING)


@pytest.mark.parametrize("strict", [False, True])
def test_any_number_of_derivatives(strict):
    x = torch.from_numpy(normal(5, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: leak_scan(x, 0.5, 0.75, strict=strict).sin(), x)
    assert torch.autograd.gradgradcheck(lambda x: leak_scan(x, 0.5, 0.75, strict=strict).sin(), x)


@pytest.mark.parametrize("view", [lambda x: x.transpose(0, 1), lambda x: x[::2], lambda x: x[:, :1].expand(-1, 4, -1)])
def test_strided_input(view):
    x = view(torch.from_numpy(normal(8, 6, 3)))
    expected = apply(leak_matrix(len(x), 0.5, 0.75), x.numpy())
    np.testing.assert_allclose(leak_scan(x, 0.5, 0.75), expected, **ROUNDING)
    assert not torch.equal(x, leak_scan(x, 0.5, 0.75)), "x itself must not be overwritten"


def test_leaves_its_input_alone():
    x = torch.from_numpy(normal(9, 2))
    before = x.clone()
    for strict in (False, True):
        leak_scan(x, 0.5, 0.75, strict=strict)
        _chunked(x, 0.5, 0.75, strict, True)
    assert torch.equal(x, before)


def test_rounds_like_the_serial_machine():
    """In float32 too, bit for bit: `y = decay*y + gain*x` and `R = decay*(R + gain*x)` in this order."""
    x = torch.from_numpy(normal(200, 7)).float()
    y = r = torch.zeros(7)
    for t, (leak, strict) in enumerate(zip(leak_scan(x, 0.3, 0.7), leak_scan(x, 0.3, 0.7, strict=True), strict=True)):
        y = y * 0.7 + 0.3 * x[t]
        assert torch.equal(leak, y)
        assert torch.equal(strict, r)
        r = (r + 0.3 * x[t]) * 0.7


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def as_module(x, gain, decay, strict):
    return (StrictLeak if strict else Leak)(gain, decay)(x)


def in_chunks(x, gain, decay, strict):
    return _chunked(x, gain, decay, strict, backwards=False)


@pytest.mark.full
@pytest.mark.parametrize("scan", [as_module, in_chunks])
@pytest.mark.parametrize("strict", [False, True])
def test_long_sequences_need_no_matrix(scan, strict):
    """T = 4096: right, and nothing larger than the sequence itself (T x T would be 2048 times that)."""
    T, N = 4096, 2
    x = torch.from_numpy(normal(T, N)).requires_grad_(scan is as_module)
    with LargestTensor() as largest:
        y = scan(x, 0.1, 0.999, strict)
        if x.requires_grad:
            y.sum().backward()
    assert largest.elements <= T * N
    matrix = matrix_of(T, 0.1, 0.999, strict)
    np.testing.assert_allclose(y.detach(), apply(matrix, x.detach().numpy()), rtol=1e-9, atol=1e-9)
    if x.requires_grad:
        np.testing.assert_allclose(x.grad, apply(matrix.T, np.ones((T, N))), rtol=1e-9, atol=1e-9)
