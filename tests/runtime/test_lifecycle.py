"""A runner's state is before a step or after it, or there must be a reset; what is refused touches nothing."""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import threading

import numpy as np
import pytest
import torch

import psu_deploy as psu
from tests import zoo
from tests.exporters.nir.machines import STATIC
from tests.exporters.nir.machines import inputs as nir_inputs
from tests.runtime.runners import BOUNDED, NETWORK, B, T, engine_call, fresh_start, inputs, opened


def refused(kind, message):
    return pytest.raises(kind, match=re.escape(message))


def stands(runner, whole, done):
    """Going on from `done` steps gives what one run of all gave."""
    np.testing.assert_array_equal(runner.run(inputs()[done:], reset=False), whole[done:])


def recovers(runner, whole):
    runner.reset(B)
    np.testing.assert_array_equal(np.stack([runner.step(x_t) for x_t in inputs()]), whole)


def must_reset(runner, message):
    assert runner.batch_size is None
    for call in (lambda: runner.step(inputs()[0]), lambda: runner.run(inputs(), reset=False)):
        with refused(psu.StateError, message) as error:
            call()
        assert "call reset(batch_size=...)" in str(error.value)


class TestResets:
    @pytest.mark.parametrize("size", [np.int64(2), np.uint8(2), np.int32(2)])
    def test_whole_numbers_of_numpy(self, runner, size):
        whole = runner.run(inputs())
        runner.reset(size)
        assert type(runner.batch_size) is int
        stands(runner, whole, 0)
        assert NETWORK.initial_state(size)["b.V"].shape == (2, 4)

    @pytest.mark.parametrize("size", [True, np.True_, 4.0, np.float32(4), 0, np.int64(-1), np.array(4), "4", 2**50])
    def test_a_refused_size_changes_nothing(self, runner, size):
        whole = runner.run(inputs())
        runner.run(inputs()[:2])
        for reset in (runner.reset, NETWORK.initial_state):
            with refused(psu.InputError, "batch_size must be"):
                reset(size)
        stands(runner, whole, 2)

    @pytest.mark.parametrize("state", [{"b.V": 0.0}, [1, 2], "b.V", np.zeros(3), 0])
    def test_a_refused_state_changes_nothing(self, runner, state):
        whole = runner.run(inputs())
        runner.run(inputs()[:2])
        for call in (lambda: runner.reset(B, state), lambda: runner.trace(inputs(), state)):
            with pytest.raises(psu.StateError):
                call()
        stands(runner, whole, 2)

    @pytest.mark.parametrize("batch", [B, B + 1])
    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
    def test_one_that_ends_in_the_middle(self, runner, monkeypatch, error, batch):
        whole = runner.run(inputs())
        runner.run(inputs()[:2])

        def fail(*_):
            raise error

        with monkeypatch.context() as patch:
            owner, name = fresh_start(runner)
            patch.setattr(f"{owner}.{name}", fail) if isinstance(owner, str) else patch.setattr(owner, name, fail)
            runner._bound = None  # of ONNX: buffers are made anew
            with pytest.raises(psu.InputError if error is MemoryError else error):
                runner.reset(batch)
        must_reset(runner, "the last reset did not come to its end")
        recovers(runner, whole)

    def test_more_than_memory_holds(self, onnx):
        whole = onnx.run(inputs())
        with refused(psu.InputError, "needs more memory than there is; take fewer samples at a time"):
            onnx.reset(2**47)
        must_reset(onnx, "the last reset did not come to its end")
        recovers(onnx, whole)


class TestEnds:
    """What ends a step or a run in the middle."""

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("verb", ["step", "run"])
    def test_nothing_is_left_to_go_on_from(self, runner, monkeypatch, when, error, verb):
        whole = runner.run(inputs())
        runner.reset(B)
        runner.run(inputs()[:2], reset=False)
        owner, name = engine_call(runner)
        original = getattr(owner, name)

        def fail(*arguments):
            if when == "after":
                original(*arguments)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(error):
                runner.step(inputs()[2]) if verb == "step" else runner.run(inputs()[2:], reset=False)
        must_reset(runner, "the last step or run was broken off in the middle")
        recovers(runner, whole)

    def test_a_run_recovers_by_itself(self, runner, monkeypatch):
        whole = runner.run(inputs())
        with monkeypatch.context() as patch:
            patch.setattr(*engine_call(runner), lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                runner.step(inputs()[0])
        np.testing.assert_array_equal(runner.run(inputs()), whole)


class TestRefusedInput:
    @pytest.mark.parametrize(
        "bad",
        [
            lambda x: np.where(x == x[0, 0, 0], np.nan, x),
            lambda x: x.astype(np.float64),
            lambda x: torch.from_numpy(x),
            lambda x: x[..., :2],
            lambda x: x.tolist(),
        ],
        ids=["nan", "float64", "torch", "features", "list"],
    )
    def test_the_state_stands(self, runner, bad):
        whole = runner.run(inputs())
        runner.run(inputs()[:2])
        given = bad(inputs())
        for call in (
            lambda: runner.step(given[0]),
            lambda: runner.run(given),
            lambda: runner.run(given, reset=False),
            lambda: runner.trace(given),
        ):
            with pytest.raises(psu.InputError):
                call()
        stands(runner, whole, 2)

    def test_a_run_past_the_horizon(self, bounded):
        whole = bounded.run(inputs())
        bounded.run(inputs()[:4])
        with refused(psu.HorizonError, f"step {T + 1} is past the horizon"):
            bounded.run(inputs()[:3], reset=False)
        stands(bounded, whole, 4)
        for call in (lambda: bounded.step(inputs()[0]), lambda: bounded.run(inputs()[:1], reset=False)):
            with refused(psu.HorizonError, f"step {T + 1} is past the horizon"):
                call()

    def test_a_run_of_the_machine_past_the_horizon(self, monkeypatch):
        state = BOUNDED.trace(inputs()[:4]).state
        monkeypatch.setattr(psu.StateMachine, "_step", lambda *_: pytest.fail("it has begun"))
        for verb in (BOUNDED.run, BOUNDED.trace):
            with refused(psu.HorizonError, f"step {T + 1} is past the horizon"):
                verb(inputs()[:3], state)

    def test_what_looks_ahead_ends_later(self, tmp_path):
        machine = zoo.NETWORKS["look-ahead"]
        runner, x = opened(machine, "onnx", tmp_path), zoo.inputs(machine, machine.horizon, 1)
        assert machine.horizon > machine.max_steps
        whole = runner.run(x)
        runner.run(x[:3])
        with refused(psu.HorizonError, f"step {machine.horizon + 1} is past the horizon"):
            runner.run(x[2:], reset=False)
        np.testing.assert_array_equal(runner.run(x[3:], reset=False), whole[3:])

    @pytest.mark.full
    def test_another_image(self, tmp_path):
        machine = STATIC["static input"]
        runner, x = opened(machine, "nir", tmp_path), nir_inputs(machine)
        whole = runner.run(x)
        given = x[:2].copy()
        runner.run(given)
        given[...] = 7  # the runner does not hold on to what is the caller's
        with refused(psu.InputError, "x changes from step to step"):
            runner.run(x[2:] + 1, reset=False)
        np.testing.assert_array_equal(runner.run(x[2:], reset=False), whole[2:])


class TestOneAtATime:
    @pytest.fixture
    def busy(self, runner, monkeypatch):
        """A runner in the middle of a step that another thread makes; it ends when the test does."""
        runner.reset(B)
        owner, name = engine_call(runner)
        original, begun, go_on = getattr(owner, name), threading.Event(), threading.Event()

        def slow(*arguments):
            begun.set()
            assert go_on.wait(20)
            return original(*arguments)

        monkeypatch.setattr(owner, name, slow)
        results = []
        thread = threading.Thread(target=lambda: results.append(runner.step(inputs()[0])))
        thread.start()
        assert begun.wait(20)
        yield runner, results, lambda: (go_on.set(), thread.join(20))
        go_on.set()
        thread.join(20)

    def test_two_threads(self, busy):
        runner, results, finish = busy
        for call in (
            lambda: runner.step(inputs()[0]),
            lambda: runner.run(inputs()),
            lambda: runner.run(inputs(), reset=False),
            lambda: runner.reset(B),
            lambda: runner.reset(B + 1),
            lambda: runner.trace(inputs()),
        ):
            with refused(psu.StateError, "this runner is in use by another thread; give each thread its own"):
                call()
        finish()
        rest = [runner.step(x_t) for x_t in inputs()[1:]]
        np.testing.assert_array_equal(np.stack([*results, *rest]), runner.run(inputs()))

    def test_many_threads_spoil_nothing(self, onnx):
        """Whoever is refused tries again: the steps that were made are the steps of one sequence."""
        given = np.repeat(inputs()[:1], 200, axis=0)
        whole = onnx.run(given)
        onnx.reset(B)
        results = []

        def work():
            for x_t in given[:50]:
                with contextlib.suppress(psu.StateError):
                    results.append(onnx.step(x_t))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(results) >= 50
        assert sorted(y.tobytes() for y in results) == sorted(y.tobytes() for y in whole[: len(results)])


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_there_is_only_one(runner, way):
    whole = runner.run(inputs())
    runner.run(inputs()[:2])
    with refused(psu.StateError, "cannot be copied or pickled; open the file once more with psu_deploy.load(path)"):
        way(runner)
    stands(runner, whole, 2)
