"""Every layer, operator and neuron in onnxruntime against the reference interpreter: outputs, spikes and all state."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.helpers import joined, step_by_step
from tests.zoo import MACHINES, chain, inputs, neuron, normal, random_state, steps_of

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Two float32 sums of at most a hundred products of size 1; fixed seeds, so no decision is closer than that to zero."""

each_machine = pytest.mark.parametrize("name", MACHINES)


@pytest.mark.rows(20)
@each_machine
@pytest.mark.parametrize("batch", [1, 4])
def test_outputs_and_state_are_the_machines(name, batch, file_of):
    machine, runner = MACHINES[name], psu.load(file_of(name), threads=1)
    x = inputs(machine, steps_of(machine), batch)
    for state in (machine.initial_state(batch), random_state(machine, batch)):
        expected, expected_state = step_by_step(machine, x, state)
        runner.reset(batch, state)
        got = np.concatenate([joined(runner.step(x_t), axis=1)[None] for x_t in x])
        np.testing.assert_allclose(got, joined(expected), **CLOSE)
        assert runner.state.keys() == expected_state.keys()
        for key, value in expected_state.items():
            np.testing.assert_allclose(runner.state[key], value, **CLOSE, err_msg=key)
            assert runner.state[key].dtype == value.dtype


@each_machine
def test_trace_is_the_machines(name, file_of):
    machine, runner = MACHINES[name], psu.load(file_of(name), threads=1)
    x, state = inputs(machine, steps_of(machine), 2), random_state(machine, 2)
    got, expected = runner.trace(x, state), machine.trace(x, state)
    np.testing.assert_allclose(joined(got.output), joined(expected.output), **CLOSE)
    assert list(got.spikes) == list(machine.spiking)
    for layer in machine.spiking:
        np.testing.assert_array_equal(got.spikes[layer], expected.spikes[layer])
        started = machine.starts[layer]  # before it nothing is decided
        for kind in ("potential", "reset", "margin"):
            found, wanted = getattr(got, kind)[layer][started:], getattr(expected, kind)[layer][started:]
            np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("fire_on", [">=", ">"])
def test_a_tie_fires_only_on_greater_or_equal(fire_on, exported):
    runner = exported(chain((3,), neuron(o.Identity(), threshold=0.5, fire_on=fire_on)))
    runner.reset(1)
    below, above = np.nextafter(np.float32([0.5, 0.5]), np.float32([0, 1]))
    assert runner.step(np.float32([[below, 0.5, above]])).tolist() == [[0.0, float(fire_on == ">="), 1.0]]


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("features", [(4,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("steps", [1, 15, 63])
def test_a_staircase_counts_the_thresholds_it_reaches(steps, features, batch, exported):
    """Against loops in float64 numpy, from a random state."""
    thresholds, height, offset = np.sort(2 * normal(steps, seed=steps)), 1.5 / steps, -0.2
    stairs = o.Staircase(thresholds, height, offset)
    machine = chain(features, neuron(o.Leak(0.5, 0.8), o.Leak(1.0, 0.3), o.StrictLeak(0.9, 0.6), estimator=stairs))
    x, state = inputs(machine, 6, batch), random_state(machine, batch)
    trace, V, E, R = exported(machine).trace(x, state), state["a.V"], state["a.E"], state["a.R"]
    for t, current in enumerate(x.astype(np.float64)):
        V, E = 0.8 * V + 0.5 * current, 0.3 * E + current
        counts = np.zeros_like(E)
        for threshold in thresholds:
            counts += threshold <= E
        np.testing.assert_allclose(trace.potential["a"][t], V, **CLOSE)
        np.testing.assert_allclose(trace.reset["a"][t], R, **CLOSE)
        np.testing.assert_array_equal(trace.spikes["a"][t], V - R >= 0.4)
        R = 0.6 * (R + 0.9 * (offset + height * counts))
    np.testing.assert_allclose(trace.state["a.R"], R, **CLOSE)


@pytest.mark.parametrize("steps", [1, 3, 63])
def test_a_staircase_counts_exactly_at_every_threshold(steps, exported):
    """Just below, at and just above each of them; a step of height 1 leaves whole numbers, that of the step before."""
    thresholds = np.arange(steps) - 1.5
    runner = exported(
        chain((3,), neuron(o.Identity(), None, o.StrictLeak(1.0, 1.0), estimator=o.Staircase(thresholds, 1.0, 0.0)))
    )
    at = thresholds.astype(np.float32)
    near = np.stack([np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))], 1)
    trace = runner.trace(np.concatenate([near, np.zeros((1, 3), np.float32)])[:, None])
    counts = np.diff(trace.reset["a"][:, 0], axis=0)
    assert counts.tolist() == [[k, k + 1, k + 1] for k in range(steps)]


def test_a_table_is_that_of_its_definition(exported):
    """At every place, one float before and behind it, and beyond the ends: the reset is S' of the step before."""
    runner = exported(chain((3,), neuron(o.Identity(), None, o.StrictLeak(1.0, 1.0), estimator=o.SigmoidTable())))
    at = np.concatenate([np.arange(-8200, 8200) / 1024, [1e30, -1e30, 1e-40]]).astype(np.float32)
    x = np.stack([np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))], 1)[None]
    trace = runner.trace(np.repeat(x[0][None], 2, axis=0))
    place = np.clip(np.floor(x[0].astype(np.float64) * 1024), -8192, 8191) + 8192
    if np.float32(1e-40) * np.float32(1) == 0:  # an engine may flush what is that small; here it does not
        place[-1] = 8192
    knots = np.rint(4096 / (1 + np.exp(8 - np.arange(65) / 4)))
    piece = (place // 256).astype(int)
    value = knots[piece] + np.floor((knots[piece + 1] - knots[piece]) * (place % 256) / 256)
    np.testing.assert_array_equal(trace.reset["a"][1] * 4096, value)


def test_a_table_leaves_what_is_no_number(exported, monkeypatch):
    """An overflow makes E infinite minus infinite; no place of the table stands for that, and nothing breaks.

    Both say so before; here they are kept from it.
    """
    big = np.float32(3e38)
    layer = neuron(o.Leak(1.0, 1.0), None, o.StrictLeak(1.0, 1.0), estimator=o.SigmoidTable())
    machine = chain((1,), ops.Linear(np.array([[4.0]])), layer)
    x = np.array([big, -big, 0.0], np.float32)[:, None, None]
    runner = exported(machine)
    for trace in (machine.trace, runner.trace):
        with pytest.raises(psu.StateError, match="layer 'b': V overflowed in step 1"):
            trace(x)
    monkeypatch.setattr("psu_deploy.exporters.onnx.runner.check_trace", lambda *_: None)
    monkeypatch.setattr("psu_deploy.machine.state_machine.check_done", lambda *_: None)
    reset = runner.trace(x).reset["b"].ravel()
    np.testing.assert_array_equal(reset, machine.trace(x).reset["b"].ravel())
    assert reset[:2].tolist() == [0.0, np.float32(4094 / 4096)]
    assert np.isnan(reset[2])


LATE_AND_SHORT = {
    "learned neuron": neuron(o.PartialSums(np.tril(normal(2, 2)), normal(2)), None, o.StrictLeak(0.7, 0.6)),
    "banded filter": ops.Filter(o.Window(normal(2, 1), normal(2), time_invariant=False)),
    "mean": ops.Readout("mean"),
    "hold": ops.Hold(),
    "bernoulli": ops.BernoulliNeuron(o.Identity(), 3),
}


@pytest.mark.parametrize("layer", LATE_AND_SHORT.values(), ids=LATE_AND_SHORT)
def test_what_starts_later_than_its_horizon_is_long(layer, exported):
    """Until the start its own count of steps is 0, never less: row -7 of a table of two would not be there."""
    machine = chain((3,), ops.Wait(7), layer)
    runner, x = exported(machine), inputs(machine, 9, 2)
    runner.reset(2)
    for got, expected in zip([runner.step(x_t) for x_t in x], machine.run(x), strict=True):
        np.testing.assert_allclose(got, expected, **CLOSE)
