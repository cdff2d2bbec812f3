"""Finite input that makes a state or the output infinite: an error that names the layer, and a reset is needed."""

from __future__ import annotations

import re

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.onnx import buffers
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.exporters.nir.machines import LEAK, STRICT, chain, lif, neuron
from tests.runtime.runners import NETWORK, B, T, opened
from tests.zoo import NEURONS

HUGE = np.float32(3e38)
LOUD = o.Leak(2.0, 0.6)
WIDE = buffers.AT_EVERY_STEP + 1


def refused(message):
    return pytest.raises(psu.StateError, match=re.escape(message))


def loud(at, steps=T, features=3):
    """Quiet, but for one step."""
    x = np.zeros((steps, B, features), np.float32)
    x[at] = HUGE
    return x


def is_void(runner, message, x):
    for call in (lambda: runner.step(x[0]), lambda: runner.run(x, reset=False)):
        with refused(message) as error:
            call()
        assert "call reset(batch_size=...) to start over" in str(error.value)
    assert runner.batch_size is None


def weighted(layer):
    return chain((3,), ops.Linear(np.eye(3) * 4), layer, ops.Linear(np.eye(3)))


MACHINES = {
    "psu": (weighted(neuron(LEAK, None, STRICT)), "layer 'b': "),
    "its potential alone": (weighted(neuron(LOUD)), "layer 'b': "),
    "a lif that forgets": (weighted(lif()), "layer 'b': "),
    "a lif that subtracts": (weighted(lif(reset="soft")), "layer 'b': "),
    "the output": (chain((3,), ops.Linear(np.eye(3) * 4)), "the output"),
    "a sum": (chain((3,), ops.Readout("sum")), None),
}
BY = [(name, kind) for name in MACHINES for kind in ("onnx", "sequence", "nir") if name != "a sum"]


@pytest.mark.parametrize(("name", "kind"), BY)
class TestRunners:
    @pytest.fixture
    def runner(self, name, kind, tmp_path):
        return opened(MACHINES[name][0], kind, tmp_path)

    def test_the_step_says_it(self, runner, name):
        runner.reset(B)
        quiet = np.stack([runner.step(x_t) for x_t in loud(2)[:2]])
        with refused("overflowed in step 3, from finite input") as error:
            runner.step(loud(2)[2])
        assert MACHINES[name][1] in str(error.value)
        is_void(runner, str(error.value), loud(2))
        runner.reset(B)
        np.testing.assert_array_equal(np.stack([runner.step(x_t) for x_t in loud(2)[:2]]), quiet)

    def test_a_run_says_it(self, runner, name):
        with refused("answers from step") as error:
            runner.run(loud(3))
        assert MACHINES[name][1] in str(error.value)
        is_void(runner, str(error.value), loud(3))
        assert np.isfinite(runner.run(loud(3)[:3])).all()

    def test_a_trace_says_it_and_leaves_the_runner_alone(self, runner):
        whole = runner.run(loud(0)[1:])
        runner.run(loud(0)[1:3])
        with refused("overflowed"):
            runner.trace(loud(3))
        np.testing.assert_array_equal(runner.run(loud(0)[3:], reset=False), whole[2:])


@pytest.mark.parametrize("name", MACHINES)
class TestMachine:
    def test_it_names_layer_and_step(self, name):
        machine, where = MACHINES[name]
        x = np.full((T, B, 3), HUGE) if name == "a sum" else loud(2)
        for verb in (machine.run, machine.trace):
            with refused(f"overflowed in step {2 if name == 'a sum' else 3}, from finite input") as error:
                verb(x)
            assert (where or "layer 'a': sum") in str(error.value)

    def test_a_step(self, name):
        machine, _ = MACHINES[name]
        state = machine.initial_state(B)
        state |= {key: np.full_like(value, HUGE) for key, value in state.items() if key == "a.sum"}
        kept = {key: value.copy() for key, value in state.items()}
        with refused("overflowed in this step"):
            machine.step(loud(2)[2], state)
        assert all(np.array_equal(state[key], kept[key]) for key in kept)

    def test_in_double_precision_it_fits(self, name):
        assert np.isfinite(MACHINES[name][0].run(loud(2).astype(np.float64))).all()


def test_the_first_layer_is_named():
    machine = chain(
        (3,), ops.Linear(np.eye(3) * 4), ops.Filter(LEAK), neuron(LEAK, None, STRICT), names=["in", "f", "n"]
    )
    with refused("layer 'f': y overflowed in step 1"):
        machine.run(loud(0))


@pytest.mark.parametrize("name", ["sliding", "window of two", "ipsu", "rpsu", "sum of exponentials", "lif soft"])
def test_every_memory_is_looked_at_in_its_step(name, exported):
    machine = chain((3,), ops.Linear(np.eye(3) * 4), NEURONS[name], ops.Linear(np.eye(3)))
    runner = exported(machine)
    runner.reset(B)
    runner.step(loud(1)[0])
    with refused("overflowed in step 2, from"):
        runner.step(loud(1)[1])
    with refused("layer 'b'"):
        machine.run(loud(1))


def test_huge_is_not_infinite(exported):
    """Squares of such numbers overflow, and their sum does: a suspicion, not a finding."""
    machine = chain((3,), neuron(LEAK, None, STRICT))
    x = np.full((T, B, 3), np.float32(1e30))
    x[::2] *= -1
    np.testing.assert_array_equal(exported(machine).run(x), machine.run(x))
    big = chain((3,), ops.Readout("last"))
    assert (exported(big).run(np.full((2, B, 3), HUGE)) == HUGE).all()


def test_integers_saturate(tmp_path):
    """On Lava nothing overflows: what is beyond the calibration data is cut."""
    runner = opened(NETWORK, "lava", tmp_path)
    np.testing.assert_array_equal(runner.run(loud(2)), runner.run(loud(2).clip(0, 1)))


class TestLargeState:
    """Not all of it is looked at in every step, and the message says since when the answers are void."""

    machine = chain((WIDE,), neuron(LOUD, None, STRICT))

    @pytest.fixture
    def runner(self, exported):
        runner = exported(self.machine)
        runner.reset(1)
        for _ in range(20):
            runner.step(self.x())
        return runner

    def x(self, value=0.0, at=5):
        x = np.zeros((1, WIDE), np.float32)
        x[0, at] = value
        return x

    @pytest.mark.parametrize("at", [0, 5, WIDE // 2, WIDE - 1])
    def test_it_is_found_before_long(self, runner, at):
        made = 0
        with refused("layer 'a': V overflowed in one of the steps") as error:
            for value in (HUGE, *[0.0] * buffers.TURNS):
                runner.step(self.x(value, at))
                made += 1
        first, last = map(int, re.search(r"steps (\d+) to (\d+)", str(error.value)).groups())
        assert first <= 21 <= last == 20 + made + 1
        assert f"answers from step {first} on are void" in str(error.value)
        is_void(runner, str(error.value), self.x()[None])

    @pytest.mark.parametrize("way", ["state", "reset", "run"])
    def test_nobody_leaves_before_it_is_found(self, runner, way):
        with refused("layer 'a': V overflowed"):
            runner.step(self.x(HUGE))
            if way == "state":
                assert runner.state
            else:
                runner.reset(1) if way == "reset" else runner.run(self.x()[None], reset=False)
        is_void(runner, "layer 'a': V overflowed", self.x()[None])
        runner.reset(1)
        assert np.isfinite(runner.state["a.V"]).all()
        runner.step(self.x())

    def test_the_block_holds_all_of_it(self, runner):
        """Every number of output and state lies in what is looked at, once."""
        for direction in runner._buffers:
            written = direction.written
            seen = [written.always, *written.in_turn]
            for index, values in enumerate([*written.outputs.values(), *written.state.values()]):
                values[...] = index + 1
            counts = sum(int((part == index + 1).sum()) for part in seen for index in range(3))
            assert counts == 3 * WIDE
            assert all(part.ctypes.data % 4 == 0 for part in seen)
