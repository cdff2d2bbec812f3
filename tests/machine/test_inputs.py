"""What a machine refuses to be fed: one clear sentence each, before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import HorizonError, InputError, StateError
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSU


@pytest.fixture
def machine():
    return to_state_machine(SpikingSequential(nn.Linear(3, 4), PSU(), nn.Linear(4, 2)), (3,))


@pytest.fixture
def bounded():
    return to_state_machine(SpikingSequential(nn.Linear(3, 4), IPSU(6)), (3,))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


class TestSequence:
    @pytest.mark.parametrize("shape", [(5, 2, 4), (5, 2), (5, 2, 3, 1), (0, 2, 3), (5, 0, 3), (3,), ()])
    def test_shape(self, machine, shape):
        with pytest.raises(InputError, match=r"x must be time-first, \(T, B, 3\) with T, B >= 1; got"):
            machine.run(zeros(*shape))

    def test_missing_axis_gets_a_hint(self, machine):
        with pytest.raises(InputError, match=r"an axis is missing: x\[:, None\] makes a sequence one sample"):
            machine.run(zeros(5, 3))

    @pytest.mark.parametrize("dtype", [np.float16, np.int64, np.bool_, np.complex64, ">f4", np.longdouble])
    def test_numpy_dtype(self, machine, dtype):
        with pytest.raises(
            InputError, match=r"must be float32 or float64, got .*; convert with x.astype\(numpy.float32"
        ):
            machine.run(zeros(5, 2, 3, dtype=dtype))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
    def test_torch_dtype(self, machine, dtype):
        with pytest.raises(InputError, match=r"x must be float32 or float64, got .*; convert with x.to\(torch.float32"):
            machine.run(torch.zeros(5, 2, 3, dtype=dtype))

    @pytest.mark.parametrize("x", [[[[0.0, 0.0, 0.0]]], 1.0, None, "x"])
    def test_type(self, machine, x):
        with pytest.raises(InputError, match="x must be a numpy array or a torch tensor, got"):
            machine.run(x)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_not_finite(self, machine, kind, value):
        x = zeros(5, 2, 3)
        x[3, 1, 2] = value
        with pytest.raises(InputError, match=r"NaN or infinity, first at index \(3, 1, 2\); clean the input"):
            machine.run(kind(x))

    def test_horizon(self, bounded):
        with pytest.raises(HorizonError, match=r"x has 7 steps \(axis 0\) but the machine's horizon is 6; cut"):
            bounded.run(zeros(7, 2, 3))

    def test_batch_first_gets_a_hint(self, bounded):
        with pytest.raises(HorizonError, match=r"axis 1 has 6: is x batch-first\? Swap the axes"):
            bounded.run(zeros(8, 6, 3))

    def test_trace_checks_too(self, machine):
        with pytest.raises(InputError, match="time-first"):
            machine.trace(zeros(5, 2, 4))


class TestStep:
    @pytest.mark.parametrize("shape", [(2, 4), (3,), (5, 2, 3), (0, 3)])
    def test_shape(self, machine, shape):
        with pytest.raises(InputError, match=r"one step must be \(B, 3\) with B >= 1; got"):
            machine.step(zeros(*shape), machine.initial_state(2))

    def test_dtype(self, machine):
        with pytest.raises(InputError, match="x must be float32 or float64, got int64"):
            machine.step(zeros(2, 3, dtype=np.int64), machine.initial_state(2))

    def test_not_finite(self, machine):
        with pytest.raises(InputError, match=r"NaN or infinity, first at index \(0, 1\)"):
            machine.step(np.array([[0.0, np.nan, 0.0]]), machine.initial_state(1))

    @pytest.mark.parametrize("start", ["first", "later"])
    def test_batch_change(self, machine, start):
        state = machine.initial_state(4)
        if start == "later":
            _, state = machine.step(zeros(4, 3), state)
        message = (
            r"state '1.V' has shape \(4, 4\) but the input needs \(3, 4\); start from initial_state\(batch_size=3\)"
        )
        with pytest.raises(StateError, match=message):
            machine.step(zeros(3, 3), state)
        with pytest.raises(StateError, match=message):
            machine.run(zeros(2, 3, 3), state)

    def test_state_of_another_machine(self, machine, bounded):
        with pytest.raises(
            StateError, match=r"does not belong to this machine: missing \['1.R', '1.V'\], unknown \[\]"
        ):
            machine.step(zeros(2, 3), {})
        with pytest.raises(StateError, match=r"unknown \['1.E', 'step'\]"):
            machine.step(zeros(2, 3), bounded.initial_state(2))

    def test_state_in_the_other_kind_and_dtype(self, machine):
        x = np.random.default_rng(0).standard_normal((2, 3))
        expected, _ = machine.step(x, machine.initial_state(2, "float64"))
        state = {name: torch.from_numpy(value) for name, value in machine.initial_state(2).items()}
        got, new_state = machine.step(x, state)
        assert np.array_equal(got, expected)
        assert all(isinstance(value, np.ndarray) and value.dtype == np.float64 for value in new_state.values())


class TestInitialState:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_is_zero(self, bounded, dtype):
        state = bounded.initial_state(5, dtype)
        assert set(state) == set(bounded.state_spec) == {"step", "1.V", "1.E", "1.R"}
        assert state.pop("step") == 0
        for name, value in state.items():
            assert value.shape == (5, *bounded.state_spec[name].shape)
            assert value.dtype == dtype
            assert not value.any()

    @pytest.mark.parametrize("batch_size", [0, -1])
    def test_batch_size(self, machine, batch_size):
        with pytest.raises(InputError, match=f"batch_size must be a whole number >= 1, got {batch_size}"):
            machine.initial_state(batch_size)

    def test_dtype(self, machine):
        with pytest.raises(InputError, match=r"dtype must be one of .* got 'float16'"):
            machine.initial_state(1, "float16")


class TestStridesAndOwnership:
    def test_strided_views(self, machine):
        x = np.random.default_rng(0).standard_normal((3, 2, 10))
        view = x.transpose(2, 1, 0)[::-1]
        assert np.array_equal(machine.run(view), machine.run(view.copy()))
        assert np.array_equal(machine.run(torch.from_numpy(x).permute(2, 1, 0)), machine.run(view[::-1].copy()))

    def test_read_only_input(self, machine):
        x = zeros(4, 2, 3)
        x.setflags(write=False)
        machine.run(x)

    def test_input_with_gradient(self, machine):
        assert not machine.run(torch.zeros(4, 2, 3, requires_grad=True)).requires_grad


class TestForcedSpikes:
    """`trace(x, spikes=...)` replaces decisions and still tells what they would have been."""

    @pytest.fixture
    def deep(self):
        return to_state_machine(SpikingSequential(nn.Linear(3, 4), PSU(), nn.Linear(4, 2), PSU()), (3,))

    def test_the_next_layer_sees_them(self, deep):
        x = np.random.default_rng(0).standard_normal((5, 2, 3))
        free = deep.trace(x)
        forced = {name: 1.0 - spikes for name, spikes in free.spikes.items()}
        trace = deep.trace(x, spikes=forced)
        assert np.array_equal(trace.spikes["1"], free.spikes["1"])
        assert not np.array_equal(trace.potential["3"], free.potential["3"])
        assert np.array_equal(trace.output, forced["3"])

    def test_own_spikes_change_nothing(self, deep):
        x = np.random.default_rng(0).standard_normal((5, 2, 3))
        free = deep.trace(x)
        again = deep.trace(x, spikes=free.spikes)
        assert np.array_equal(again.output, free.output)
        assert all(np.array_equal(again.margin[name], free.margin[name]) for name in deep.spiking)

    @pytest.mark.parametrize(
        "spikes",
        [
            {"1": zeros(5, 2, 4)},
            {"1": zeros(5, 2, 4), "3": zeros(5, 2, 2), "nobody": zeros(5, 2, 2)},
            {"1": zeros(5, 2, 4), "3": zeros(5, 2, 1)},
            {"1": zeros(4, 2, 4), "3": zeros(4, 2, 2)},
        ],
        ids=["missing", "unknown", "shape", "steps"],
    )
    def test_are_checked(self, deep, spikes):
        with pytest.raises(InputError):
            deep.trace(zeros(5, 2, 3), spikes=spikes)
