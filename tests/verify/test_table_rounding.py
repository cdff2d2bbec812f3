"""The rounding bound of neurons that look through a table: an error of E may find another place in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from psu_deploy.verify import aligned_run, certify, compare
from tests.amount import tries
from tests.verify.networks import RANDOM
from tests.verify.test_rounding import ESTIMATES, double, excess, other_order
from tests.zoo import chain, neuron, normal

ULP = 2.0**-23
"""From 1 to the next float32."""


def cancelling(seed, T, kind, size):
    """Currents that cancel but for a remainder of size 1, so that what is left is off by many places of the table."""
    random = np.random.default_rng(seed)
    weights = random.normal(0.0, 1.0, (8, 6))
    weights[:, 3:] = size * random.normal(0.0, 1.0, (8, 1)) * [1.0, -0.5, -0.25]
    x = random.normal(0.0, 1.0, (T, 3, 6))
    x[..., 3:] = (x[..., 3:4] + [0.0, 0.0, 0.0]) * [1.0, 1.0, 2.0]
    layer = neuron(
        o.Leak(0.8, 0.5), ESTIMATES[kind](T, random), o.StrictLeak(0.9, 0.7), estimator=o.SigmoidTable(), threshold=0.1
    )
    return chain((6,), ops.Linear(weights), layer), x.astype(np.float32)


networks = st.builds(
    cancelling, st.integers(0, 2**16), st.integers(2, 20), st.sampled_from(list(ESTIMATES)), st.sampled_from([1, 3e4])
)


@pytest.mark.full
@pytest.mark.parametrize("kind", ESTIMATES)
def test_other_places_are_found(kind):
    """So the tests below do see what they are about: what is off by rounding shows in R, a place at a time or more."""
    off = 0
    for seed in range(10):
        machine, x = cancelling(seed, 10, kind, 3e4)
        trace = other_order(machine, x)
        exact = machine.trace(x.astype(np.float64), spikes=double(trace.spikes))
        off += np.abs(trace.reset["b"] - exact.reset["b"]).max() > 0.5 * 0.9 * 0.7 / 4096
    assert off >= 8


@pytest.mark.full
@given(example=networks)
@settings(max_examples=tries(60), **RANDOM)
def test_it_holds(example):
    machine, x = example
    assert excess(machine, x, machine.trace(x)) <= 0
    assert excess(machine, x, other_order(machine, x)) <= 0


@pytest.mark.full
@given(example=networks)
@settings(max_examples=tries(20), **RANDOM)
def test_it_holds_in_float64(example):
    machine, x = example
    x = x.astype(np.float64)
    assert excess(machine, x, other_order(machine, x), precision="float64") <= 0


def test_it_is_as_tight_as_that_of_a_sigmoid():
    """Currents of size 1: hardly any E is so near an edge that rounding could find the next place."""
    table = neuron(o.Leak(0.5, 0.5), None, o.StrictLeak(1.0, 0.5), estimator=o.SigmoidTable())
    machine, x = chain((6,), ops.Linear(normal(100, 6)), table), normal(30, 8, 6).astype(np.float32)
    bound = certify(machine, x, machine.trace(x)).bounds.margin["b"].numpy()
    assert (bound > 0).all()
    assert np.median(bound) < 1e-5
    assert (bound > 1e-4).mean() < 1e-2  # a place is worth 2.4e-4 at most


def on_edge(away, E=0.25):
    """E is an edge of the table in step 1 of neuron 1, and far from one everywhere else; R is large beside 1/4096."""
    layer = neuron(o.Identity(), o.Identity(), o.StrictLeak(1000.0, 0.5), estimator=o.SigmoidTable())
    x = np.tile(np.float32([0.2003, 0.6003, 3.0003]), (4, 2, 1))
    x[1, :, 1] = E + away
    return chain((3,), layer), x


@pytest.mark.parametrize(("here", "there"), [(0.0, -ULP / 8), (-ULP / 8, 0.0), (-ULP / 8, -ULP / 4), (0.0, ULP / 8)])
def test_on_an_edge_either_place_may_be_found(here, there):
    machine, x = on_edge(here)
    own, other = (aligned_run(machine, machine.trace, on_edge(away)[1]) for away in (here, there))
    crossed = (here >= 0) != (there >= 0)
    assert (np.abs(other.reset["a"] - own.reset["a"]).max() > 0.1) == crossed
    certificate = certify(machine, x, other)
    assert certificate.ok, certificate.wrong
    assert compare(machine, x, ("own", own), ("other", other)).ok
    bound = certificate.bounds.margin["a"]
    assert float(bound[2, :, 1].min()) > 500 / 4096, "the step behind the edge"
    assert float(bound[:, :, [0, 2]].max()) < 5e-3, "no other neuron is excused"
    assert float(bound[:2].max()) < 5e-3, "nor an earlier step"


def test_off_the_edge_the_place_must_be_right():
    machine, x = on_edge(1e-4)
    trace = aligned_run(machine, machine.trace, on_edge(-1e-4)[1])
    assert certify(machine, x, aligned_run(machine, machine.trace, x)).ok
    assert not certify(machine, x, trace).ok


def test_what_is_flushed_to_zero_is_excused():
    """Just below 0 lies another place than 0; an engine that knows no such small number finds the latter."""
    machine, x = on_edge(-1e-40, E=0.0)
    assert certify(machine, x, aligned_run(machine, machine.trace, on_edge(0.0, E=0.0)[1])).ok


@pytest.mark.full
def test_the_sigmoid_itself_is_called_wrong(tmp_path):
    machine, other = (
        chain((6,), ops.Linear(normal(12, 6)), neuron(o.Leak(0.8, 0.5), None, o.StrictLeak(0.9, 0.7), estimator=kind))
        for kind in (o.SigmoidTable(), o.Sigmoid())
    )
    x = normal(12, 4, 6).astype(np.float32)
    assert certify(machine, x, machine.trace(x)).ok
    assert not certify(machine, x, other.trace(x)).ok
    right, wrong = (psu.export(m, tmp_path / f"{i}.onnx") for i, m in enumerate((machine, other)))
    assert psu.verify(machine, right, x).ok
    assert not certify(machine, x, psu.load(wrong).trace(x)).ok
