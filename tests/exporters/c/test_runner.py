"""The runner: one state, moved only by its own steps; everything that does not fit is refused in words."""

from __future__ import annotations

import re

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c.runner import CRunner
from psu_deploy.machine import ops
from tests.zoo import MACHINES, NETWORKS, NEURONS, STEPS, chain, inputs, random_state

B = 2
MACHINE = NETWORKS["residual"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return psu.export(MACHINE, tmp_path_factory.mktemp("runner") / "net.c", target="c").path


@pytest.fixture
def runner(path):
    return psu.load(path)


@pytest.fixture
def x():
    return inputs(MACHINE, STEPS, B)


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_run_is_reset_and_steps(runner, x):
    assert type(runner) is CRunner
    whole = runner.run(x)
    np.testing.assert_allclose(whole, MACHINE.run(x), rtol=1e-5, atol=1e-5)
    runner.reset(B)
    assert np.array_equal(whole, np.stack([runner.step(x_t) for x_t in x]))


@pytest.mark.parametrize("cut", range(1, STEPS))
def test_state_can_be_taken_away_and_put_back(runner, path, x, cut):
    whole = runner.run(x)
    runner.run(x[:cut])
    other = psu.load(path)
    other.reset(B, runner.state)
    assert np.array_equal(other.run(x[cut:], reset=False), whole[cut:])


def test_its_state_is_the_machines(runner, x):
    """Every tensor, in shape and meaning, from a state that is not zero."""
    state = random_state(MACHINE, B)
    runner.reset(B, state)
    runner.run(x, reset=False)
    last = MACHINE.trace(x, state).state
    assert runner.state.keys() == last.keys()
    for name, value in runner.state.items():
        assert value.shape == last[name].shape
        np.testing.assert_allclose(value, last[name], rtol=1e-5, atol=1e-5)


def test_trace_is_what_runs_and_leaves_the_state_alone(runner, x):
    whole = runner.run(x)
    runner.run(x[:2])
    before = runner.state
    trace = runner.trace(x)
    assert equal(runner.state, before)
    np.testing.assert_array_equal(trace.output, whole)
    expected = MACHINE.trace(x)
    for role in ("potential", "reset", "margin"):
        for layer, values in getattr(expected, role).items():
            np.testing.assert_allclose(getattr(trace, role)[layer], values, rtol=1e-5, atol=1e-5)
    for layer, spikes in trace.spikes.items():
        np.testing.assert_array_equal(spikes, trace.margin[layer] >= 0)


def test_samples_do_not_see_each_other(runner):
    x = inputs(MACHINE, STEPS, 5)
    alone = np.concatenate([runner.run(x[:, [b]]) for b in range(5)], axis=1)
    np.testing.assert_array_equal(runner.run(x), alone)


@pytest.mark.full
def test_noise_depends_on_the_sample(exported):
    machine = MACHINES["bernoulli neuron"]
    x = np.repeat(inputs(machine, 40, 1), 3, axis=1)
    y = exported(machine).run(x)
    np.testing.assert_array_equal(y, machine.run(x))
    assert not np.array_equal(y[:, 0], y[:, 1])


def test_any_memory_layout_will_do(runner, x):
    strided = np.asfortranarray(np.repeat(x, 2, axis=-1))[..., ::2]
    strided.setflags(write=False)
    assert np.array_equal(runner.run(strided), runner.run(x))


@pytest.mark.full
def test_a_long_sequence_is_run_in_parts(exported):
    machine = chain((4,), NEURONS["psu"], ops.Readout("sum"))
    x = inputs(machine, 600, 1)
    np.testing.assert_array_equal(exported(machine).run(x), machine.run(x))


def test_a_refused_step_changes_nothing(runner, x):
    whole = runner.run(x)
    runner.run(x[:2])
    for bad in (x[2] * np.nan, x[2] * np.inf, x[2].astype(np.float64), x[2][:, :1], x[2][:1]):
        with pytest.raises(psu.PsuDeployError):
            runner.step(bad)
    assert np.array_equal(runner.run(x[2:], reset=False), whole[2:])


def refused(kind, message):
    return pytest.raises(kind, match=re.escape(message))


def test_what_does_not_fit(runner, x):
    with refused(psu.StateError, "call reset(batch_size=...) before the first step"):
        runner.step(x[0])
    runner.reset(B)
    for change, message in (
        (lambda x: x[:, :3], "one step must be (B, 4) with B >= 1; got (2, 3)"),
        (lambda x: x.astype(np.float64), "x must be float32, got float64"),
        (lambda x: np.where(x == x[1, 2], np.nan, x), "x holds NaN or infinity, first at index (1, 2)"),
        (lambda x: np.where(x == x[0, 3], np.float32(np.inf), x), "x holds NaN or infinity, first at index (0, 3)"),
    ):
        with refused(psu.InputError, message):
            runner.step(change(x[0]))
    with refused(psu.StateError, "state does not belong to this machine"):
        runner.reset(B, {})


def test_past_the_horizon(runner, x):
    runner.run(x)
    with refused(psu.HorizonError, f"step {STEPS + 1} is past the horizon"):
        runner.step(x[0])
    for state in ({"step": np.array(STEPS)}, {"step": np.array(1000)}):
        runner.reset(B, MACHINE.initial_state(B) | state)
        with refused(psu.HorizonError, "is past the horizon"):
            runner.step(x[0])
    with refused(psu.HorizonError, "is past the horizon"):
        runner.trace(x, MACHINE.initial_state(B) | {"step": np.array(1)})


SUMS = chain((2,), ops.Linear(np.eye(2)), ops.Readout("sum"))
LARGE = np.full((1, 1, 2), 2e38, np.float32)


@pytest.mark.parametrize("verb", ["step", "run"])
def test_an_overflow_is_said_and_needs_a_reset(exported, verb):
    runner = exported(SUMS)
    runner.reset(1)
    runner.step(LARGE[0])
    with refused(psu.StateError, "layer 'b': sum overflowed in step 2"):
        runner.step(LARGE[0]) if verb == "step" else runner.run(np.repeat(LARGE, 3, axis=0), reset=False)
    for act in (lambda: runner.state, lambda: runner.step(LARGE[0])):
        with refused(psu.StateError, "answers from step 2 on are void"):
            act()
    runner.reset(1)
    np.testing.assert_array_equal(runner.step(LARGE[0]), LARGE[0])


@pytest.mark.full
def test_an_output_that_overflows(exported):
    runner = exported(chain((2,), ops.Power(2.0)))
    runner.reset(1)
    with refused(psu.StateError, "the output overflowed in step 1"):
        runner.step(LARGE[0])
    with refused(psu.StateError, "the output overflowed in step 2"):
        runner.run(np.concatenate([0 * LARGE, LARGE, LARGE]))
    with refused(psu.StateError, "the output overflowed in step 2"):
        runner.trace(np.concatenate([0 * LARGE, LARGE, LARGE]))


def test_contents_and_facts(runner):
    assert [layer.kind for layer in runner.contents.layers][:3] == ["Linear", "SpikingNeuron", "Delay"]
    assert {tensor.name: tensor.shape for tensor in runner.contents.state} == {
        name: spec.shape for name, spec in MACHINE.state_spec.items()
    }
    assert runner.artifact.machine_hash == MACHINE.content_hash
    assert runner.facts["format"] == "psu-deploy.c.1"


@pytest.mark.full
@pytest.mark.rows(5)
@pytest.mark.parametrize(
    "name", ["look-ahead", "static", "several outputs", "hand-over of late membranes", "held filter"]
)
def test_what_starts_late_waits_and_is_silent(exported, name):
    """From the first step on, the silent ones too: state that does not move yet, answers that are not there yet."""
    machine = NETWORKS[name]
    x = inputs(machine, STEPS, B)
    x = np.repeat(x[:1], STEPS, axis=0) if machine.static_input else x
    runner = exported(machine)
    state = random_state(machine, B)
    expected, trace = machine.trace(x, state), runner.trace(x, state)
    for output, y in expected.outputs.items():
        np.testing.assert_allclose(trace.outputs[output], y, rtol=1e-4, atol=1e-4)
    for t in range(1, STEPS + 1):
        after, seen = (run.trace(x[:t], state).state for run in (machine, runner))
        for tensor, value in after.items():
            np.testing.assert_allclose(seen[tensor], value, rtol=1e-4, atol=1e-4)
    assert psu.verify(machine, runner, x[: STEPS - machine.latency], allow_silent=True).ok
