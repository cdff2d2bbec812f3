"""Every row of the zoo against its mathematics: in the machine, saved, under rounding, and in every target."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters import EXPORTERS
from psu_deploy.machine import StateMachine, Trace, ops
from psu_deploy.machine.trace import sole
from psu_deploy.verify import certify
from tests import oracles
from tests.helpers import ROUNDING, joined, noise, step_by_step
from tests.verify.engines import TO_NEAREST
from tests.zoo import MACHINES, NEURONS, inputs, steps_of

each_machine = pytest.mark.parametrize("name", MACHINES)

IN_FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
"""Sums of at most a hundred products of size 1, six steps; fixed seeds, so no decision is closer than that to zero."""

LOAD = {"onnx": {"threads": 1}, "nir": {"simulator": "canonical"}, "lava": {"simulator": "integer"}, "c": {}}


BASES = ops.Layer | ops.CausalOperator | ops.Estimator


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every HDF5 file first, in case it is damaged. Ours are not, and there are hundreds."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)


def fed(machine, batch=2):
    """Input of a kind that the machine takes, float32."""
    return inputs(machine, steps_of(machine) - machine.latency, batch)


def with_silence(machine, x):
    """Followed by nothing until the last answer is out; an image goes on being shown."""
    after = np.repeat(x[:1], machine.latency, 0)
    return np.concatenate([x, after if machine.static_input else np.zeros_like(after)])


@pytest.mark.rows(400)
@each_machine
def test_it_is_its_mathematics(name):
    """All at once and step by step, every layer that fires."""
    machine = MACHINES[name]
    x = with_silence(machine, fed(machine)).astype(np.float64)
    expected = oracles.run(machine, x)
    trace, (stepped, _) = machine.trace(x), step_by_step(machine, x, machine.initial_state(2, "float64"))
    shapes = {name: (*x.shape[:2], *shape) for name, shape in machine.outputs.items()}
    assert {name: y.shape for name, y in trace.outputs.items()} == shapes
    for y in (trace.output, stepped, machine.run(x)):
        np.testing.assert_allclose(joined(y), expected[machine.output], **ROUNDING)
    for layer, spikes in trace.spikes.items():
        np.testing.assert_array_equal(spikes, expected[layer])


@pytest.mark.rows(60)
@each_machine
def test_it_is_saved(name, tmp_path):
    machine = MACHINES[name]
    loaded = StateMachine.load(machine.save(tmp_path / "net.psm"))
    assert loaded.content_hash == machine.content_hash
    x = fed(machine)
    np.testing.assert_array_equal(joined(loaded.run(x)), joined(machine.run(x)))


def run_by(engine, machine, x):
    """A trace as an engine in float32 would leave it."""
    values, margins = {"x": np.float64(x)}, {}
    for node in machine.nodes:
        seen = [values[name] for name in node.inputs]
        if isinstance(node.layer, ops.Neuron):
            drawn = noise(node.layer.seed, seen[0].shape) if isinstance(node.layer, ops.BernoulliNeuron) else None
            margins[node.name], fired = engine.neuron(node.layer, seen[0], drawn)
            values[node.name] = np.float64(fired)
        elif len(seen) > 1:
            values[node.name] = engine.elementwise(node.layer, seen)
        else:
            values[node.name] = engine.layer(node.layer, seen[0])
    outputs = sole(machine.split(values[machine.output][machine.latency :]))
    return Trace(outputs, {name: values[name] for name in margins}, margin=margins)


AT_ONCE = [name for name, machine in MACHINES.items() if not any(machine.starts.values())]
"""Where no layer waits for its first input: the engines know nothing of that."""


@pytest.mark.rows(60)
@pytest.mark.parametrize("engine", TO_NEAREST)
@pytest.mark.parametrize("name", AT_ONCE)
def test_rounding_in_any_order_is_forgiven(name, engine):
    machine = MACHINES[name]
    x = fed(machine)
    certificate = certify(machine, x, run_by(engine, machine, with_silence(machine, x)))
    assert certificate.ok, (certificate.wrong, certificate.disputed)


def exported(machine, target, folder, x):
    """The artifact, or what the target says instead."""
    options = {"calibration": x} if target == "lava" else {}
    try:
        return psu.export(machine, folder / f"net{EXPORTERS[target].suffix}", target=target, **options)
    except psu.UnsupportedModelError as refusal:
        return refusal


@pytest.mark.rows(90)
@each_machine
@pytest.mark.parametrize("target", EXPORTERS)
def test_a_target_runs_it_or_says_why_not(target, name, tmp_path):
    machine, x = MACHINES[name], fed(MACHINES[name])
    found = exported(machine, target, tmp_path, x)
    if isinstance(found, psu.UnsupportedModelError):
        assert target not in ("onnx", "c")
        assert not list(tmp_path.iterdir())
        assert all(problem.path in machine.shapes and problem.reason and problem.remedy for problem in found.problems)
        return
    runner = psu.load(found, **LOAD.get(target, {}))
    assert psu.verify(machine, runner, x, allow_silent=True).ok
    if found.fidelity == "faithful":
        x = with_silence(machine, x)
        expected = oracles.run(machine, np.float64(x))[machine.output]
        np.testing.assert_allclose(joined(runner.run(x)), expected, **IN_FLOAT32)


def test_every_kind_has_a_row():
    """And a meaning; layers, causal operators, estimators."""
    layers = [node.layer for machine in MACHINES.values() for node in machine.nodes]
    parts = [getattr(layer, field.name) for layer in layers for field in fields(layer)]
    kinds = {kind for kind in vars(ops).values() if isinstance(kind, type) and is_dataclass(kind)}
    assert kinds == {type(part) for part in (*layers, *parts) if isinstance(part, BASES)}
    assert kinds == set(oracles.ORACLES)
    filters = {type(layer.operator) for layer in layers if isinstance(layer, ops.Filter)}
    assert filters == {kind for kind in kinds if issubclass(kind, ops.CausalOperator)}


@pytest.mark.parametrize("name", NEURONS)
def test_the_neurons_both_fire_and_stay_silent(name):
    """Were one always or never to fire, equal would mean little."""
    machine = MACHINES[f"{name} neuron"]
    assert 0.02 < machine.run(inputs(machine, steps_of(machine), 4)).mean() < 0.98
