"""Where two runs part, and by how much: told exactly, index by index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import compare
from tests.zoo import chain, neuron

T, B, SIDE = 4, 3, 5
THRESHOLD = 0.4


@pytest.fixture
def cube():
    """A neuron on (5, 5, 5), whose every margin is another number: an index read the wrong way round is a wrong one."""
    machine = chain((SIDE,) * 3, neuron(o.Identity(), threshold=THRESHOLD))
    return machine, np.random.default_rng(0).normal(0.5, 1.0, (T, B, SIDE, SIDE, SIDE)).astype(np.float32)


def flipped(trace, *places):
    spikes = trace.spikes["a"].copy()
    for place in places:
        spikes[place] = 1 - spikes[place]
    return replace(trace, spikes={"a": spikes})


PLACES = [(2, 1, 0, 3, 4), (3, 2, 4, 1, 0), (0, 0, 1, 2, 3), (1, 2, 3, 3, 0)]


@pytest.mark.parametrize("place", PLACES)
def test_the_first_divergence_is_where_it_is_and_has_the_margin_it_has(cube, place):
    machine, x = cube
    trace = machine.trace(x)
    found = compare(machine, x, ("one", trace), ("two", flipped(trace, place))).first_divergence
    assert (found.layer, found.t, found.sample, found.neuron) == ("a", place[0], place[1], place[2:])
    assert found.margin == pytest.approx(float(x[place]) - THRESHOLD, abs=1e-12)
    assert abs(found.margin) > found.bound > 0


@pytest.mark.parametrize("place", PLACES)
def test_a_disputed_decision_says_where_it_is(cube, place):
    machine, x = cube
    trace = machine.trace(x)
    comparison = compare(machine, x, ("one", trace), ("two", flipped(trace, place)))
    (disputed,) = comparison.disputed
    assert (disputed.t, disputed.sample, disputed.neuron) == (place[0], place[1], place[2:])
    assert disputed.margin == pytest.approx(float(x[place]) - THRESHOLD, abs=1e-12)
    assert not comparison.ok
    assert comparison.spike_flips == 1


def test_the_first_divergence_is_the_first_in_time(cube):
    machine, x = cube
    trace = machine.trace(x)
    found = compare(machine, x, ("one", trace), ("two", flipped(trace, *PLACES))).first_divergence
    assert (found.t, found.sample, found.neuron) == (0, 0, (1, 2, 3))


def test_within_a_step_the_earlier_layer_diverged_first():
    """Whatever the samples are: (step 2, sample 2) of the first layer comes before (step 2, sample 0) of the second."""
    spiking = [neuron(o.Identity(), threshold=0.3), neuron(o.Identity(), threshold=0.5)]
    machine = chain((4,), *spiking)
    x = np.random.default_rng(0).normal(0.5, 1.0, (T, B, 4)).astype(np.float32)
    trace = machine.trace(x)
    spikes = {name: rows.copy() for name, rows in trace.spikes.items()}
    for name, at in (("a", (2, 2, 3)), ("b", (2, 0, 0)), ("b", (3, 0, 0))):
        spikes[name][at] = 1 - spikes[name][at]
    found = compare(machine, x, ("one", trace), ("two", replace(trace, spikes=spikes))).first_divergence
    assert (found.layer, found.t, found.sample, found.neuron) == ("a", 2, 2, (3,))


@pytest.fixture
def summing():
    """An output that is another number in every step."""
    nodes = (Node("s", neuron(o.Identity()), ("x",)), Node("total", ops.Readout("sum"), ("x",)))
    machine = StateMachine(nodes, (2,), output="total")
    return machine, np.random.default_rng(1).uniform(1.0, 2.0, (T, B, 2)).astype(np.float32)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("away", [0.0, 0.25, -0.5])
def test_an_output_of_the_last_step_is_compared_with_the_last_step(summing, swapped, away):
    machine, x = summing
    trace = machine.trace(x)
    last = replace(trace, output=trace.output[-1:] + np.float32(away))
    runs = [("all", trace), ("last", last)]
    comparison = compare(machine, x, *(runs[::-1] if swapped else runs))
    assert comparison.max_abs_error == pytest.approx(abs(away), abs=1e-6)
    assert comparison.ok == (away == 0.0)


def test_the_largest_difference_of_all_steps_counts(summing):
    machine, x = summing
    trace = machine.trace(x)
    output = trace.output.copy()
    output[0, 1, 0] -= 0.75
    output[2, 0, 1] += 0.5
    comparison = compare(machine, x, ("one", trace), ("two", replace(trace, output=output)))
    assert comparison.max_abs_error == pytest.approx(0.75, abs=1e-6)
    assert not comparison.ok


def test_the_largest_difference_of_potentials_counts(summing):
    machine, x = summing
    trace = machine.trace(x)
    potential = trace.potential["s"].copy()
    potential[1, 2, 0] -= 0.75
    potential[3, 0, 1] += 0.5
    comparison = compare(machine, x, ("one", trace), ("two", replace(trace, potential={"s": potential})))
    (layer,) = comparison.layers
    assert layer.max_potential_error == pytest.approx(0.75, abs=1e-6)
    assert layer.spikes_compared == T * B * 2
    assert layer.firing_rate == pytest.approx(np.mean(trace.spikes["s"]))
    assert not comparison.ok
