"""Coefficients too small to matter: zero wherever they would be multiplied with, kept wherever they are only told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import psu_deploy as psu
from psu_deploy.machine import StateMachine, ops
from psu_deploy.nn.temporal import CausalMatrix
from psu_deploy.numerics.subnormal import flushed
from psu_deploy.verify.rounding import rounding_bounds
from tests.helpers import apply, leak_matrix
from tests.zoo import chain

T = 200
TINY = 2.0**-126
"""The smallest normal float32."""

SMALL = 3e-41
"""Subnormal in float32; an ordinary number in float64."""


def is_subnormal(values) -> np.ndarray:
    values = np.asarray(values)
    return (values != 0) & (np.abs(values) < TINY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_flushed(dtype):
    """Zero keeps its sign; what is no number stays none."""
    least = np.finfo(dtype).tiny
    values = np.array([0.0, -0.0, least, -least, 1.0, np.inf, np.nan, least / 2, -least / 2, least / 2**20], dtype)
    expected = np.array([0.0, -0.0, least, -least, 1.0, np.inf, np.nan, 0.0, -0.0, 0.0], dtype)
    for found in (flushed(values), flushed(torch.from_numpy(values)).numpy()):
        assert found.dtype == dtype
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("order", [None, 150])
def test_a_matrix_starts_without(order):
    """At the leak in all else, from the first entry to the last that is normal."""
    start = CausalMatrix(T, order=order).matrix(T).numpy()
    expected = np.where(np.tril(leak_matrix(T, 0.5, 0.5)) >= TINY, leak_matrix(T, 0.5, 0.5), 0.0)
    if order is not None:
        expected = np.triu(expected, 1 - order)
    np.testing.assert_array_equal(start, expected)


def with_small_entries() -> CausalMatrix:
    operator = CausalMatrix(5)
    with torch.no_grad():
        operator.entries[::2] = SMALL
    return operator


def test_training_multiplies_with_zero():
    """With numbers so large that the smallest would show."""
    operator = with_small_entries()
    x = torch.full((5, 1), 2.0**120)
    matrix = operator.matrix(5).numpy()
    assert is_subnormal(matrix).any(), "the operator still tells what was set"
    expected = apply(np.where(is_subnormal(matrix), 0.0, matrix), x.double().numpy())
    np.testing.assert_array_equal(operator(x).detach().double().numpy(), expected.astype(np.float32))
    assert (operator.double()(x.double()).detach().numpy() != expected).any(), "in float64 they are ordinary numbers"


def test_a_small_entry_learns():
    operator = with_small_entries()
    operator(torch.ones(5, 1)).sum().backward()
    assert (operator.entries.grad == 1).all()


MATRIX = np.tril(leak_matrix(5, 0.5, 0.5))
MATRIX[2, 0], MATRIX[4, 1:4] = SMALL, -SMALL

MACHINE = chain(
    (3,),
    ops.Linear(np.full((2, 3), [[SMALL], [1.0]]), np.zeros(2)),
    ops.SpikingNeuron(ops.PartialSums(MATRIX, np.zeros(5)), None, ops.Sigmoid(), ops.StrictLeak(0.5, 0.5), 0.5, ">="),
)
"""With a layer and a learned matrix that have such numbers."""

HASH = "43a0bd739ecf"
"""How its hash begins, as it was when such numbers were multiplied with."""


def without() -> StateMachine:
    """The same, the numbers zero from the start."""
    linear, neuron = (node.layer for node in MACHINE.nodes)
    integrate = replace(neuron.integrate, matrix=np.where(is_subnormal(MATRIX), 0.0, MATRIX))
    return chain((3,), replace(linear, weight=np.full((2, 3), [[0.0], [1.0]])), replace(neuron, integrate=integrate))


def large(scale: float) -> np.ndarray:
    return scale * np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)


def test_a_machine_keeps_them():
    assert MACHINE.content_hash.startswith(HASH)
    assert MACHINE.content_hash != without().content_hash


def test_a_file_keeps_them(tmp_path):
    MACHINE.save(tmp_path / "net.psm")
    assert StateMachine.load(tmp_path / "net.psm").content_hash == MACHINE.content_hash


@pytest.mark.parametrize("scale", [1.0, 2.0**110])
def test_every_form_multiplies_with_zero(tmp_path, scale):
    """The reference in float32 and the ONNX file alike."""
    x = large(scale)
    expected = without().trace(x)
    runner = psu.load(psu.export(MACHINE, tmp_path / "net.onnx"))
    for found in (MACHINE.trace(x), runner.trace(x)):
        for name, margin in expected.margin.items():
            np.testing.assert_array_equal(found.margin[name], margin)


def test_in_float64_they_are_ordinary_numbers():
    x = large(2.0**110).astype(np.float64)
    found, zeros = MACHINE.trace(x), without().trace(x)
    assert any((found.margin[name] != margin).any() for name, margin in zeros.margin.items())


@pytest.mark.parametrize("scale", [1.0, 2.0**60, 2.0**110])
def test_the_bound_counts_them(scale):
    """What was lost, against the float64 run that has them all."""
    x = torch.from_numpy(large(scale)).double()
    single = MACHINE.trace(x.numpy().astype(np.float32))
    spikes = {name: torch.from_numpy(value).double() for name, value in single.spikes.items()}
    exact = MACHINE.trace(x, spikes=spikes)
    start = {name: torch.from_numpy(value) for name, value in MACHINE.initial_state(2, "float64").items()}
    bounds = rounding_bounds(MACHINE, x, spikes, start, "float32")
    for name, margin in exact.margin.items():
        apart = (torch.from_numpy(single.margin[name]).double() - margin).abs()
        assert bool((apart <= bounds.margin[name]).all())


def test_a_lost_number_may_be_all_there_is():
    """One weight, subnormal, and an input that makes much of it: the result is zero, and the bound says how far off."""
    machine = chain((1,), ops.Linear(np.full((1, 1), SMALL), np.zeros(1)))
    x = torch.full((1, 1, 1), 2.0**120, dtype=torch.float64)
    assert machine.run(x.float()).item() == 0.0
    bound = rounding_bounds(machine, x, {}, {}, "float32").outputs["y"].item()
    assert SMALL * 2.0**120 <= bound <= 2.0**120 * 2.0**-120


def test_onnx_files_hold_none(tmp_path):
    psu.export(MACHINE, tmp_path / "net.onnx")
    constants = [numpy_helper.to_array(c) for c in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert not any(is_subnormal(c).any() for c in constants if c.dtype == np.float32)


def edited(path, change):
    """A file of the machine with the numbers of earlier releases, after one change to its table of columns."""
    psu.export(MACHINE, path)
    model = onnx.load(path)
    columns = np.tril(MATRIX, -1)[1:].T.reshape(5, 1, 4, 1).astype(np.float32)
    weight = np.full((2, 3), [[SMALL], [1.0]], dtype=np.float32)
    assert is_subnormal(columns).any()
    change(columns)
    replaced = 0
    for constant in model.graph.initializer:
        for end, numbers in (("laters", columns), ("weight", weight)):
            if constant.name.endswith(end):
                same = numbers.reshape(numpy_helper.to_array(constant).shape)
                constant.CopyFrom(numpy_helper.from_array(same, constant.name))
                replaced += 1
    assert replaced == 2
    onnx.save(model, path)
    return psu.verify(MACHINE, path, torch.from_numpy(large(1.0)))


def test_earlier_files_hold_them_and_are_still_right(tmp_path):
    report = edited(tmp_path / "net.onnx", lambda columns: None)
    assert report.verdict.startswith("EQUIVALENT: "), report.verdict
    assert not report.structure.differences


def test_a_subnormal_number_that_is_not_the_machine_s_is_found(tmp_path):
    def change(columns):
        columns[4, 0, 3] = 1e-45

    assert edited(tmp_path / "net.onnx", change).structure.differences
