"""The runner: one state, moved only by its own steps; everything that does not fit is refused in words."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.exporters.onnx.runner import OnnxRunner
from psu_deploy.machine import ops
from tests.zoo import MACHINES, NETWORKS, NEURONS, STEPS, chain, inputs, random_state

B = 2
MACHINE = NETWORKS["residual"]
UNBOUNDED = chain((4,), NEURONS["psu"], ops.Readout("sum"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return psu.export(MACHINE, tmp_path_factory.mktemp("runner") / "net.onnx").path


@pytest.fixture
def runner(path):
    return psu.load(path, threads=1)


@pytest.fixture
def x():
    return inputs(MACHINE, STEPS, B)


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


class TestStepping:
    def test_it_is_a_runner(self, runner):
        assert type(runner) is OnnxRunner
        assert runner.input_shape == (4,)
        assert runner.batch_size is None

    def test_run_is_reset_and_steps(self, runner, x):
        whole = runner.run(x)
        runner.reset(B)
        assert np.array_equal(whole, np.stack([runner.step(x_t) for x_t in x]))
        assert runner.batch_size == B

    def test_run_starts_over(self, runner, x):
        assert np.array_equal(runner.run(x), runner.run(x))

    @pytest.mark.parametrize("cut", range(1, STEPS))
    def test_run_goes_on_without_reset(self, runner, x, cut):
        whole = runner.run(x)
        runner.reset(B)
        parts = [runner.run(part, reset=False) for part in (x[:cut], x[cut:])]
        assert np.array_equal(np.concatenate(parts), whole)

    @pytest.mark.parametrize("cut", range(1, STEPS))
    def test_state_can_be_taken_away_and_put_back(self, runner, path, x, cut):
        whole = runner.run(x)
        runner.run(x[:cut])
        other = psu.load(path)
        other.reset(B, runner.state)
        assert np.array_equal(other.run(x[cut:], reset=False), whole[cut:])

    def test_batch_size_changes_with_a_reset(self, runner):
        for batch in (3, 1, 3):
            x = inputs(MACHINE, STEPS, batch)
            np.testing.assert_allclose(runner.run(x), MACHINE.run(x), rtol=1e-5, atol=1e-5)

    def test_samples_do_not_see_each_other(self, runner, x):
        alone = np.concatenate([runner.run(x[:, [b]]) for b in range(B)], axis=1)
        np.testing.assert_allclose(runner.run(x), alone, rtol=1e-5, atol=1e-5)

    def test_any_memory_layout_will_do(self, runner, x):
        strided = np.asfortranarray(np.repeat(x, 2, axis=-1))[..., ::2]
        strided.setflags(write=False)
        assert np.array_equal(runner.run(strided), runner.run(x))

    def test_without_a_horizon_it_runs_for_ever(self, exported):
        x = inputs(UNBOUNDED, 300, 1)
        np.testing.assert_allclose(exported(UNBOUNDED).run(x), UNBOUNDED.run(x), rtol=1e-5)

    @pytest.mark.parametrize("threads", [None, 1, 2])
    def test_threads(self, path, x, threads):
        np.testing.assert_allclose(psu.load(path, threads=threads).run(x), MACHINE.run(x), rtol=1e-5, atol=1e-5)


class TestState:
    def test_it_starts_at_zero_and_moves(self, runner, x):
        runner.reset(B)
        assert equal(runner.state, MACHINE.initial_state(B))
        before = runner.state
        for x_t in x[:-1]:  # at the last step no sum is left to be fed
            runner.step(x_t)
            after = runner.state
            frozen = [name for name in before if np.array_equal(before[name], after[name])]
            assert frozen == [], "these did not move"
            before = after

    def test_reset_forgets(self, runner, x):
        runner.run(x)
        runner.reset(B)
        assert equal(runner.state, MACHINE.initial_state(B))

    def test_it_is_a_copy(self, runner, x):
        whole = runner.run(x)
        runner.reset(B)
        outputs = []
        for x_t in x:
            for value in runner.state.values():
                value[...] = 7
            outputs.append(runner.step(x_t))
        assert np.array_equal(np.stack(outputs), whole)

    def test_what_was_given_to_reset_is_not_touched(self, runner, x):
        state = random_state(MACHINE, B)
        kept = {name: value.copy() for name, value in state.items()}
        runner.reset(B, state)
        runner.run(x, reset=False)
        assert equal(state, kept)

    def test_two_runners_share_nothing(self, path, x):
        first, second = psu.load(path), psu.load(path)
        whole = first.run(x)
        first.reset(B)
        second.reset(B)
        for t, x_t in enumerate(x):
            assert np.array_equal(first.step(x_t), whole[t])
            second.step(-x_t)

    def test_an_output_is_not_overwritten_by_the_next_step(self, runner, x):
        runner.reset(B)
        outputs = [runner.step(x_t) for x_t in x]
        kept = [y.copy() for y in outputs]
        runner.run(-x)
        assert np.array_equal(outputs, kept)

    def test_the_input_is_not_touched_and_may_be_reused(self, runner, x):
        whole = runner.run(x)
        runner.reset(B)
        buffer, outputs = np.empty_like(x[0]), []
        for x_t in x:
            buffer[...] = x_t
            outputs.append(runner.step(buffer))
            assert np.array_equal(buffer, x_t)
            buffer[...] = np.nan
        assert np.array_equal(np.stack(outputs), whole)

    def test_trace_leaves_the_state_alone(self, runner, x):
        runner.run(x[:2])
        before = runner.state
        runner.trace(x)
        assert equal(runner.state, before)

    def test_a_refused_step_changes_nothing(self, runner, x):
        whole = runner.run(x)
        runner.run(x[:2])
        for bad in (x[2] * np.nan, x[2].astype(np.float64), x[2][:, :1], x[2][:1]):
            with pytest.raises(psu.PsuDeployError):
                runner.step(bad)
        assert np.array_equal(runner.run(x[2:], reset=False), whole[2:])


def refused(kind, message):
    return pytest.raises(kind, match=re.escape(message))


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x[:, :3], "one step must be (B, 4) with B >= 1; got (2, 3)"),
            (lambda x: x[0], "one step must be (B, 4) with B >= 1; got (4,)"),
            (lambda x: x[None], "one step must be (B, 4) with B >= 1; got (1, 2, 4)"),
            (lambda x: x[:0], "one step must be (B, 4) with B >= 1; got (0, 4)"),
            (lambda x: x.astype(np.float64), "x must be float32, got float64; convert with x.astype(numpy.float32)"),
            (lambda x: x.astype(np.float16), "x must be float32, got float16"),
            (lambda x: x.astype(int), "x must be float32, got int64"),
            (lambda x: x.astype(">f4"), "x must be float32, got >f4"),
            (lambda x: x > 0, "x must be float32, got bool"),
            (lambda x: x.tolist(), "x must be a numpy array or a torch tensor, got list"),
            (lambda x: np.where(x == x[1, 2], np.nan, x), "x holds NaN or infinity, first at index (1, 2)"),
            (lambda x: np.where(x == x[0, 3], np.inf, x), "x holds NaN or infinity, first at index (0, 3)"),
            (lambda x: torch.from_numpy(x), "an ONNX runner takes numpy; convert with x.numpy()"),
        ],
    )
    def test_a_step_that_does_not_fit(self, runner, x, change, message):
        runner.reset(B)
        with refused(psu.InputError, message):
            runner.step(change(x[0]))

    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            (lambda x: x[..., :3], psu.InputError, "x must be time-first, (T, B, 4) with T, B >= 1; got (6, 2, 3)"),
            (lambda x: x[:, 0], psu.InputError, "an axis is missing: x"),
            (lambda x: x[:0], psu.InputError, "with T, B >= 1; got (0, 2, 4)"),
            (lambda x: x * np.inf, psu.InputError, "x holds NaN or infinity, first at index (0, 0, 0)"),
            (lambda x: x.astype(np.float64), psu.InputError, "x must be float32, got float64"),
            (lambda x: torch.from_numpy(x), psu.InputError, "an ONNX runner takes numpy"),
            (
                lambda x: np.repeat(x, 2, axis=0),
                psu.HorizonError,
                "x has 12 steps (axis 0) but the machine's horizon is 6",
            ),
            (lambda x: np.zeros((9, STEPS, 4), np.float32), psu.HorizonError, "axis 1 has 6: is x batch-first?"),
        ],
    )
    @pytest.mark.parametrize("verb", ["run", "trace"])
    def test_a_sequence_that_does_not_fit(self, runner, x, change, kind, message, verb):
        with refused(kind, message):
            getattr(runner, verb)(change(x))

    def test_a_step_before_the_first_reset(self, runner, x):
        for act in (lambda: runner.step(x[0]), lambda: runner.run(x, reset=False), lambda: runner.state):
            with refused(psu.StateError, "call reset(batch_size=...) before the first step"):
                act()

    def test_another_batch_size_without_a_reset(self, runner, x):
        runner.reset(B)
        with refused(psu.StateError, "the state is that of 2 sample(s), x has 1; call reset(batch_size=1) first"):
            runner.step(x[0][:1])

    def test_a_step_past_the_horizon(self, runner, x):
        runner.run(x)
        with refused(psu.HorizonError, f"step {STEPS + 1} is past the horizon"):
            runner.step(x[0])
        with refused(psu.HorizonError, f"step {STEPS + 1} is past the horizon"):
            runner.run(x, reset=False)
        runner.reset(B)
        runner.step(x[0])

    @pytest.mark.parametrize("steps", [STEPS, STEPS + 1, 1000])
    def test_a_state_past_the_horizon(self, runner, x, steps):
        runner.reset(B, MACHINE.initial_state(B) | {"step": np.array(steps)})
        with refused(psu.HorizonError, "is past the horizon"):
            runner.step(x[0])

    def test_a_trace_past_the_horizon(self, runner, x):
        with refused(psu.HorizonError, "is past the horizon"):
            runner.trace(x, MACHINE.initial_state(B) | {"step": np.array(1)})

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_state_that_is_no_number(self, runner, value):
        state = MACHINE.initial_state(B)
        state["mean.sum"][1, 2] = value
        with pytest.raises(psu.StateError):
            runner.reset(B, state)

    @pytest.mark.parametrize("batch_size", [0, -1, 2.0, "2", None])
    def test_a_batch_size_that_is_none(self, runner, batch_size):
        with refused(psu.InputError, f"batch_size must be a whole number >= 1, got {batch_size!r}"):
            runner.reset(batch_size)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: {}, "state does not belong to this machine: missing ['0.spikes.E'"),
            (lambda s: s | {"more": s["step"]}, "missing [], unknown ['more']"),
            (lambda s: {n: v for n, v in s.items() if n != "mean.sum"}, "missing ['mean.sum'], unknown []"),
            (
                lambda s: s | {"mean.sum": s["mean.sum"][:1]},
                "state 'mean.sum' has shape (1, 3) but the input needs (2, 3)",
            ),
            (lambda s: s | {"step": np.zeros(2, int)}, "state 'step' has shape (2,) but the input needs ()"),
        ],
    )
    def test_the_state_of_another_machine(self, runner, x, change, message):
        state = change(MACHINE.initial_state(B))
        with refused(psu.StateError, message):
            runner.reset(B, state)
        with refused(psu.StateError, message):
            runner.trace(x, state)

    @pytest.mark.parametrize("batch", [B, B + 1])
    def test_a_refused_reset_changes_nothing(self, runner, x, batch):
        whole = runner.run(x)
        runner.run(x[:2])
        with pytest.raises(psu.StateError):
            runner.reset(batch, {})
        assert np.array_equal(runner.run(x[2:], reset=False), whole[2:])


def test_a_frozen_state_would_be_seen(exported, monkeypatch):
    """Guards the tests above: a runner that reads the same buffers at every step gives other outputs."""
    machine = MACHINES["psu neuron"]
    runner, x = exported(machine), inputs(machine, STEPS, B)
    runner.reset(B)
    monkeypatch.setattr(runner, "_buffers", [runner._buffers[0]] * 2)
    runner.step(x[0])
    before = runner.state
    runner.step(x[1])
    assert equal(runner.state, before)
    assert not np.array_equal(runner.run(x), machine.run(x))
