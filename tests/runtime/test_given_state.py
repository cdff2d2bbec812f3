"""A state that somebody brings along: one sentence for everything that cannot be gone on from."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import psu_deploy as psu
from tests import zoo
from tests.runtime.runners import opened

MACHINE = zoo.NETWORKS["residual"]
B, V, STEP = 2, "0.spikes.V", "step"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return opened(MACHINE, "onnx", tmp_path_factory.mktemp("net"))


@pytest.fixture
def x():
    return zoo.inputs(MACHINE, 3, B)


def state(**changes):
    return zoo.random_state(MACHINE, B) | {{"V": V, "step": STEP}[name]: value for name, value in changes.items()}


def filled(value, dtype):
    return np.full((B, 4), value, dtype)


WRONG = {
    "nan": (state(V=filled(np.nan, np.float32)), f"state {V!r} holds NaN or infinity"),
    "infinity": (state(V=filled(-np.inf, np.float64)), f"state {V!r} holds NaN or infinity"),
    "nan in torch": (state(V=torch.full((B, 4), torch.nan)), f"state {V!r} holds NaN or infinity"),
    "too large": (state(V=filled(1e300, np.float64)), f"state {V!r} holds numbers too large for float32"),
    "too large in torch": (
        state(V=torch.full((B, 4), 1e300, dtype=torch.float64)),
        "holds numbers too large for float32",
    ),
    "complex": (state(V=filled(1, complex)), f"state {V!r} must be real numbers, float32 or float64, got complex128"),
    "complex in torch": (state(V=torch.zeros(B, 4, dtype=torch.complex64)), "must be real numbers"),
    "text": (state(V=filled("a", "U1")), f"state {V!r} must be real numbers, float32 or float64, got <U1"),
    "objects": (state(V=filled(None, object)), f"state {V!r} must be real numbers, float32 or float64, got object"),
    "truth": (state(V=filled(True, bool)), "must be real numbers, float32 or float64, got bool"),
    "nothing": (state(V=None), f"state {V!r} has shape ()"),
    "ragged": (state(V=[[1.0], [1.0, 2.0]]), f"state {V!r} must be an array of numbers, got list"),
    "a dict": (state(V={}), f"state {V!r} has shape ()"),
    "shape": (state(V=filled(0, np.float32)[:1]), f"state {V!r} has shape (1, 4) but the input needs (2, 4)"),
    "step nan": (state(step=np.array(np.nan)), "the step counter must be a whole number >= 0 and below 2**62, got nan"),
    "step float": (state(step=np.array(1.0)), "the step counter must be a whole number >= 0 and below 2**62, got 1.0"),
    "step of Python": (state(step=1.0), "the step counter must be a whole number >= 0"),
    "step infinite": (state(step=torch.tensor(torch.inf)), "the step counter must be a whole number >= 0"),
    "step negative": (state(step=np.array(-1)), "the step counter must be a whole number >= 0 and below 2**62, got -1"),
    "step huge": (state(step=2**62), "the step counter must be a whole number >= 0 and below 2**62, got 46116860"),
    "step huger": (state(step=10**30), "the step counter must be a whole number >= 0 and below 2**62, got 10000000"),
    "step unsigned": (state(step=np.array(2**64 - 1, np.uint64)), "the step counter must be a whole number >= 0"),
    "step true": (state(step=True), "the step counter must be a whole number >= 0"),
    "step text": (state(step="1"), "the step counter must be a whole number >= 0"),
    "step complex": (state(step=1j), "the step counter must be a whole number >= 0"),
    "a list": ([1, 2], "a state maps names to arrays, as initial_state() does; got list"),
    "an array": (np.zeros(3), "a state maps names to arrays, as initial_state() does; got ndarray"),
    "names": (state() | {5: np.zeros(3), "more": 0}, "unknown [5, 'more']"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("verb", ["step", "run", "trace", "reset", "runner's trace"])
def test_one_sentence(runner, x, name, verb):
    given, message = WRONG[name]
    calls = {
        "step": lambda: MACHINE.step(x[0], given),
        "run": lambda: MACHINE.run(x, given),
        "trace": lambda: MACHINE.trace(x, given),
        "reset": lambda: runner.reset(B, given),
        "runner's trace": lambda: runner.trace(x, given),
    }
    whole = runner.run(x)
    runner.run(x[:1])
    with pytest.raises(psu.StateError, match=re.escape(message)) as error:
        calls[verb]()
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(runner.run(x[1:], reset=False), whole[1:])


GOOD = {
    "float64": lambda v: v.astype(np.float64),
    "big-endian": lambda v: v.astype(">f4"),
    "half of it": lambda v: np.asfortranarray(v),
    "read only": lambda v: np.broadcast_to(v, v.shape),
    "torch": torch.from_numpy,
    "with a gradient": lambda v: torch.from_numpy(v).requires_grad_(),
    "a list": lambda v: v.tolist(),
}


@pytest.mark.parametrize("kind", GOOD)
def test_any_kind_of_the_same_numbers(runner, x, kind):
    plain = state()
    given = plain | {V: GOOD[kind](plain[V])} | {STEP: np.int32(2)}
    expected = plain | {STEP: np.array(2)}
    np.testing.assert_array_equal(MACHINE.run(x, given), MACHINE.run(x, expected))
    found = runner.trace(x, given).output
    np.testing.assert_array_equal(found, runner.trace(x, expected).output)
    runner.reset(B, given)
    np.testing.assert_allclose(runner.run(x, reset=False), MACHINE.run(x, expected), rtol=1e-5, atol=1e-5)
