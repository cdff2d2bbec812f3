"""The kernels for a GPU: on one where there is one, and everywhere by Triton's interpreter, in a process of its own."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import psu_deploy as psu
from psu_deploy.nn.kernels import cuda, operators, step_by_step
from tests.nn.kernels.triton_cases import (
    EXPONENTIALS,
    INTERPRETED,
    LIFS,
    THERE,
    UNITS,
    exponentials,
    lif,
    moved,
    randn,
    unit,
)

MEMORY = torch.cuda.get_device_properties(0).total_memory if THERE else 0
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
compiled_or_interpreted = pytest.mark.skipif(not (THERE or INTERPRETED), reason="no GPU: see test_the_interpreter")
needs_gpu = pytest.mark.skipif(not THERE or INTERPRETED, reason="needs a GPU")

U = 2.0**-24
ODD = [float("nan"), float("inf"), -float("inf"), -0.0, 1e-40, 3e38, -3e38, -88.8, 0.3, 0.6, 0.9]
"""The last three meet thresholds exactly: of units, of units whose leak halves the input, and of LIF."""


def agree(name: str, inputs: list[Any], dtype: torch.dtype) -> None:
    """Results are those of the steps in torch, in the same dtype; gradients those of float64, but for rounding."""
    operator, grad = getattr(operators, name), randn(*inputs[0].shape)
    there = moved(inputs, dtype, DEVICE)
    found = getattr(cuda, name)(*there).cpu()
    expected = operator.reference(*moved(inputs, dtype, "cpu"))
    if set(expected.unique().tolist()) <= {0.0, 1.0}:
        assert 0 < expected.mean() < 1
        assert torch.equal(found, expected)
    else:
        close(found, expected, dtype)
    gradients = getattr(cuda, f"{name}_backward")(grad.to(DEVICE, dtype), *there)
    for one, other in zip(gradients, operator.reference_backward(grad, *inputs), strict=True):
        if one.ndim and not one.numel():
            assert not other.numel()
        elif name != "lif" or one.ndim or inputs[1] is not None:  # a gradient of no share is anything
            close(one.cpu(), other, dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Within 16 roundings; a hundred and more where steps and neurons are summed, whose terms cancel."""
    assert found.dtype == dtype
    assert found.is_contiguous()
    roundings = 16 if found.ndim > 1 else 200
    error, largest = (found.double() - expected.double()).abs().max(), expected.abs().max()
    assert error <= roundings * torch.finfo(dtype).eps / 2 * largest


@compiled_or_interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("options", UNITS.values(), ids=UNITS)
def test_units_are_those_of_torch(options: dict[str, Any], dtype: torch.dtype) -> None:
    agree("spiking_unit", unit(**options), dtype)


@compiled_or_interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("options", LIFS.values(), ids=LIFS)
def test_lif_is_that_of_torch(options: tuple[bool, bool, bool, bool], dtype: torch.dtype) -> None:
    agree("lif", lif(*options), dtype)


@compiled_or_interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("terms", EXPONENTIALS)
def test_sums_of_exponentials_are_those_of_torch(terms: int, dtype: torch.dtype) -> None:
    agree("exponentials", exponentials(terms), dtype)


@compiled_or_interpreted
def test_odd_shapes() -> None:
    for shape in [(1, 1), (1, 2, 64), (9, 1), (5,), (2, 135)]:
        agree_in_shape(shape)


def agree_in_shape(shape: tuple[int, ...]) -> None:
    for name, inputs in {
        "spiking_unit": unit(leak_a=[0.5, 0.75], surrogate=("none", 1.0), shape=shape),
        "lif": lif(True, True, False, True, shape=shape),
        "exponentials": exponentials(2, shape=shape),
    }.items():
        inputs = moved(inputs, torch.float64, DEVICE)
        expected = getattr(operators, name).reference(*moved(inputs, torch.float64, "cpu"))
        found = getattr(cuda, name)(*inputs)
        assert found.shape == shape
        assert torch.allclose(found.cpu(), expected, rtol=1e-14, atol=1e-14)


@compiled_or_interpreted
def test_memory_in_any_order() -> None:
    inputs = unit(two=True, biases=(True, False), leak_b=[0.5, 0.5])
    inputs[0], inputs[1] = inputs[0].transpose(0, 2).contiguous().transpose(0, 2), inputs[1].flip(2)
    inputs[2] = torch.tensor(0.25).double().expand(len(inputs[0]))
    agree("spiking_unit", inputs, torch.float64)
    inputs = moved(unit(leak_a=[0.5, 0.75]), torch.float64, DEVICE)
    grad = torch.ones(1, dtype=torch.float64, device=DEVICE)
    expanded, written = (
        cuda.spiking_unit_backward(g, *inputs)[0] for g in (grad.expand(inputs[0].shape), torch.ones_like(inputs[0]))
    )
    assert torch.equal(expanded, written)


@compiled_or_interpreted
@pytest.mark.parametrize("options", UNITS.values(), ids=UNITS)
def test_units_take_odd_numbers_as_torch_does(options: dict[str, Any]) -> None:
    take_odd_numbers("spiking_unit", unit(**options, shape=(2, len(ODD) ** 2)))


@compiled_or_interpreted
@pytest.mark.parametrize("options", LIFS.values(), ids=LIFS)
def test_lif_takes_odd_numbers_as_torch_does(options: tuple[bool, bool, bool, bool]) -> None:
    take_odd_numbers("lif", lif(*options, shape=(2, len(ODD) ** 2)))


def take_odd_numbers(name: str, inputs: list[Any]) -> None:
    """NaN, infinities, numbers that overflow and some that hardly exist, on two steps in every combination."""
    here = moved(inputs, torch.float32, "cpu")
    here[0] = torch.cartesian_prod(torch.tensor(ODD), torch.tensor(ODD)).T.contiguous()
    grad, operator = torch.rand_like(here[0]), getattr(operators, name)
    there = moved(here, torch.float32, DEVICE)
    expected = operator.reference(*here), *operator.reference_backward(grad, *here)[: 2 if here[1] is not None else 1]
    found = getattr(cuda, name)(*there), *getattr(cuda, f"{name}_backward")(grad.to(DEVICE), *there)
    for one, other in zip(found, expected, strict=False):
        torch.testing.assert_close(one.cpu(), other, rtol=32 * U, atol=32 * U, equal_nan=True)


@compiled_or_interpreted
def test_the_sigmoid_is_off_by_four_units_at_most() -> None:
    """What a unit's reset is after one step: verify allows eight."""
    x = torch.cat([torch.linspace(-120, 120, 101 if INTERPRETED else 1_000_001), torch.tensor(ODD[1:])])
    inputs = moved(unit(surrogate=("none", 1.0)), torch.float32, DEVICE)
    inputs[0], inputs[6], inputs[10] = torch.stack([x, torch.zeros_like(x)]).to(DEVICE), [1.0, 1.0], 0.0
    found = -cuda.spiking_unit(*inputs)[1].cpu()
    assert (found.double() - torch.sigmoid(x.double())).abs().max() <= 4 * U
    if not INTERPRETED:
        assert torch.equal(found, torch.sigmoid(x))


BIG: dict[str, Callable[[], list[Any]]] = {
    "spiking_unit": lambda: unit(leak_a=[0.5, 0.75], shape=(64, 9, 5001)),
    "lif": lambda: lif(True, True, False, True, shape=(64, 9, 5001)),
    "exponentials": lambda: exponentials(3, shape=(64, 9, 5001)),
}


@needs_gpu
@pytest.mark.parametrize("make", [psu.PSU, psu.LIF, psu.PLIF, lambda: psu.PSU(estimator=psu.Staircase(15))])
def test_neurons_on_a_gpu_are_those_on_a_cpu(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spikes to the last bit, in one launch there and one back, and half precision is widened before."""
    neuron, launched = make(), []
    there, run = copy.deepcopy(neuron).cuda(), cuda._run
    monkeypatch.setattr(cuda, "_run", lambda *args, **kinds: (launched.append(1), run(*args, **kinds)))
    for dtype in (torch.float32, torch.float16):
        x, grad = randn(300, 7, 1008, scale=2.0).to(dtype), randn(300, 7, 1008).to(dtype)
        xs = x.clone().requires_grad_(), x.cuda().requires_grad_()
        with step_by_step():
            expected = neuron(xs[0])
        found = there(xs[1])
        assert torch.equal(found.cpu(), expected)
        expected.backward(grad)
        found.backward(grad.cuda())
        assert (xs[1].grad.cpu() - xs[0].grad).abs().max() <= 1e-3 * xs[0].grad.abs().max()
        relative = (xs[1].grad.cpu() - xs[0].grad).double().norm() / xs[0].grad.double().norm()
        assert relative <= 64 * torch.finfo(dtype).eps
    assert len(launched) == 4


@needs_gpu
@pytest.mark.parametrize("name", ["spiking_unit", "lif", "exponentials"])
def test_backward_on_a_gpu_needs_little_memory_and_gives_the_same_every_time(name: str) -> None:
    inputs = moved(BIG[name](), torch.float32, "cuda")
    grad = torch.randn_like(inputs[0])
    backward = getattr(cuda, f"{name}_backward")
    first = backward(grad, *inputs)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    second = backward(grad, *inputs)
    assert torch.cuda.max_memory_allocated() - before <= 2.01 * inputs[0].nbytes
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@needs_gpu
@pytest.mark.parametrize("name", ["spiking_unit", "lif", "exponentials"])
def test_torch_takes_the_operators_on_a_gpu(name: str) -> None:
    inputs = moved(BIG[name](), torch.float32, "cuda")
    inputs[0].requires_grad_()
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.psu_deploy, name).default, tuple(inputs), test_utils=tests)


@pytest.mark.nightly
@pytest.mark.skipif(MEMORY < 30 << 30, reason="needs a GPU with 30 GiB")
def test_more_numbers_than_32_bits_count_on_a_gpu() -> None:
    x = torch.zeros(3, 2**30 - 3, device="cuda")
    x[:, -1] = 1.5
    spikes = cuda.lif(x, None, 2.0, 1.0, True, True, False, ">=", "atan", 2.0)
    assert spikes[:, -1].tolist() == [0.0, 1.0, 0.0]
    assert spikes.sum().item() == 1.0


@pytest.mark.skipif(INTERPRETED, reason="it starts what runs here")
def test_the_interpreter() -> None:
    """All of the above, on a CPU; Triton decides how it runs when it is imported."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "",
        "-k",
        "not gpu and not the_interpreter",
        __file__,
    ]
    run = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "skipped" not in run.stdout
