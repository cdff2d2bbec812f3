"""A file in every engine that reads it spikes as the machine does, and as the raw mathematics do."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from psu_deploy.machine import ops
from tests.exporters.nir import oracle
from tests.exporters.nir.machines import BY_HAND, ENGINES, MACHINES, PORTABLE, READERS, inputs
from tests.oracles import output_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

DT = 1e-4
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}
"""Of float32, over sums of at most a few dozen numbers of size 10, along 10 steps."""


@cache
def run_of(name):
    """Input of a machine, and its run in float64."""
    x = inputs(MACHINES[name])
    return x, MACHINES[name].trace(x.astype(np.float64))


def check(name, spikes, output):
    """All spikes are the machine's; the output is, once it is read out."""
    machine, (x, trace) = MACHINES[name], run_of(name)
    assert spikes.keys() == trace.spikes.keys()
    for layer, expected in trace.spikes.items():
        assert spikes[layer].shape == expected.shape
        assert int((spikes[layer] != expected).sum()) == 0, layer
    output = output.reshape(*x.shape[:2], *machine.shapes[machine.output])
    np.testing.assert_allclose(read_out(machine, output), trace.output, **ROUNDING)


@pytest.mark.rows(8)
@pytest.mark.parametrize(("name", "dialect", "engine"), READERS)
def test_every_engine(file_of, run_in, name, dialect, engine):
    output, spikes = run_in(file_of(name, dialect), engine, run_of(name)[0])
    check(name, spikes, output)
    assert all(values.dtype == np.float32 for values in (output, *spikes.values()))


@pytest.mark.rows(4)
@pytest.mark.parametrize("name", PORTABLE[::9])
@pytest.mark.parametrize("dialect", ["portable", "norse", "snntorch", "spikingjelly"])
def test_our_executor_reads_the_files_of_the_simulators(file_of, run_in, name, dialect):
    output, spikes = run_in(file_of(name, dialect), "canonical", run_of(name)[0])
    check(name, spikes, output)


THEMSELVES = [*((name, "canonical") for name in MACHINES), *((name, "portable") for name in PORTABLE[::4])]


@pytest.mark.rows(6)
@pytest.mark.parametrize(("name", "dialect"), THEMSELVES)
def test_the_file_itself(file_of, graph_of, name, dialect):
    """Read by NIR, run by the specification in numpy."""
    graph, x = graph_of(file_of(name, dialect)), run_of(name)[0]
    values = oracle.simulate(graph, x, DT)
    neurons = json.loads(graph.metadata["psu_deploy"])["neurons"]
    spikes = {layer: values[n["node"]].reshape(*x.shape[:2], *n["shape"]) for layer, n in neurons.items()}
    check(name, spikes, values["output"])


def read_out(machine, output):
    layer = machine.nodes[-1].layer
    if not isinstance(layer, ops.Readout) or layer.kind == "last":
        return output
    counts = np.arange(1, len(output) + 1).reshape(-1, *[1] * (output.ndim - 1))
    return np.cumsum(output, axis=0) / (counts if layer.kind == "mean" else 1)


ONE_NEURON = [
    name
    for name, m in BY_HAND.items()
    if len(m.nodes) == 3
    and [n.name for n in m.nodes] == ["a", "b", "c"]
    and isinstance(m.nodes[0].layer, ops.Linear)
    and isinstance(m.nodes[1].layer, ops.Neuron)
    and len(m.input_shape) == 1
]


def raw_spikes(name, x):
    linear, neuron = (node.layer for node in MACHINES[name].nodes[:2])
    bias = 0.0 if linear.bias is None else linear.bias
    return output_of(neuron, x.astype(np.float64) @ linear.weight.T + bias)


@pytest.mark.parametrize("name", ONE_NEURON)
def test_the_machine_and_the_raw_mathematics(name):
    x, trace = run_of(name)
    raw = raw_spikes(name, x)
    np.testing.assert_array_equal(trace.spikes["b"], raw)
    assert 0.02 < raw.mean() < 0.98


LEAKS, OTHERS = "rpsu with bias", ("sliding window of 3", "lif hard, divided, 2.0, >=")
ENGINES_OF = [(LEAKS, engine) for engine in ENGINES] + [(n, e) for n in OTHERS for e in ENGINES if e != "sinabs"]


@pytest.mark.parametrize(("name", "engine"), ENGINES_OF)
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 4), (7, 1)])
def test_other_batches_and_a_single_step(file_of, run_in, name, engine, T, B):
    x = inputs(MACHINES[name], T, B)
    _, spikes = run_in(file_of(name, engine), engine, x)
    np.testing.assert_array_equal(spikes["b"], raw_spikes(name, x))


@pytest.mark.full
def test_all_kinds_of_spikes_are_compared():
    """Were a layer always or never to fire, equal would mean little."""
    rates = {(name, layer): s.mean() for name in MACHINES for layer, s in run_of(name)[1].spikes.items()}
    one_sided = [where for where, rate in rates.items() if not 0 < rate < 1]
    assert one_sided == []
