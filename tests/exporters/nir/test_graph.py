"""What stands in a file: standard nodes with full parameters, in an order that every reader can run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.exporters.nir import oracle
from tests.exporters.nir.importing.nir_graphs import nir
from tests.exporters.nir.machines import (
    DIALECTS,
    FAMILY,
    FLAT_AND_LEAKY,
    LEAK,
    MACHINES,
    OF_THEIR_OWN,
    PORTABLE,
    STRICT,
    chain,
    linear,
    neuron,
    stairs,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

AFFINE = {"Input", "Output", "Affine", "Conv2d", "SumPool2d", "CubaLIF", "LIF"}
VOCABULARY = {
    "canonical": AFFINE - {"CubaLIF"}
    | {"Scale", "Threshold", "LI", "I", "Delay", "IF", "Conv1d", "AvgPool2d", "Flatten"},
    "portable": AFFINE,
    "norse": AFFINE,
    "snntorch": AFFINE | {"Conv1d", "AvgPool2d"},
    "spikingjelly": AFFINE | {"Conv1d", "AvgPool2d", "IF"},
    "sinabs": {"Input", "Output", "Affine", "Conv2d", "SumPool2d", "Flatten", "LI", "LIF"},
}
FILES = [
    *((name, "canonical") for name in list(MACHINES)[1::2]),
    *((name, "portable") for name in PORTABLE[::2]),
    *((name, dialect) for dialect, names in OF_THEIR_OWN.items() for name in names[::2]),
    *((name, "sinabs") for name in FLAT_AND_LEAKY[::2]),
]


@pytest.mark.rows(12)
@pytest.mark.parametrize(("name", "dialect"), FILES)
def test_standard_nodes_with_full_parameters(file_of, graph_of, name, dialect):
    """NIR itself reads the file, with all its checks; no parameter relies on broadcasting."""
    graph = graph_of(file_of(name, dialect))
    assert {type(node).__name__ for node in graph.nodes.values()} <= VOCABULARY[dialect]
    assert all(type(node).__module__.split(".")[0] == "nir" for node in graph.nodes.values())
    for node in graph.nodes.values():
        shape = tuple(int(n) for n in np.ravel(next(iter(node.output_type.values()))))
        for field in ("tau", "tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in", "threshold"):
            if hasattr(node, field):
                assert np.shape(getattr(node, field)) == shape, field
        for field in ("scale", "delay"):
            if hasattr(node, field):
                assert np.shape(getattr(node, field)) == shape, field
        if isinstance(node, nir.CubaLIF):
            assert node.tau_syn.dtype == node.tau_mem.dtype == np.float64
            assert (node.tau_syn == 1e-4).all()
            assert (node.tau_mem == 1e-4).all()
        if isinstance(node, nir.Affine | nir.Conv1d | nir.Conv2d):
            assert node.weight.dtype == node.bias.dtype == np.float32
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            assert int(node.groups) == 1
            assert len(set(node.weight.shape[2:])) == 1


@pytest.mark.rows(12)
@pytest.mark.parametrize(("name", "dialect"), FILES)
def test_names_and_order(file_of, graph_of, name, dialect):
    graph = graph_of(file_of(name, dialect))
    names = [name for name in graph.nodes if not name.isidentifier() or not name.isascii()]
    assert names == []
    assert len(set(graph.edges)) == len(graph.edges)
    assert [type(node).__name__ for node in graph.nodes.values()].count("Output") == 1
    if dialect in ("portable", "norse", "sinabs"):
        visited = oracle.depth_first(graph.edges, "input")
        assert set(visited) == set(graph.nodes)
        assert visited[-1] == "output"
        late = oracle.back_edges(graph.edges, "input")
        early = [(a, b) for a, b in graph.edges if (a, b) not in late and visited.index(a) > visited.index(b)]
        assert early == []
    if dialect == "sinabs":
        assert oracle.back_edges(graph.edges, "input") == set()


@pytest.mark.full
@pytest.mark.parametrize(("name", "dialect"), FILES[::7])
def test_metadata(file_of, graph_of, name, dialect):
    path, machine = file_of(name, dialect), MACHINES[name]
    metadata = graph_of(path).metadata
    assert float(metadata["dt"]) == 1e-4
    ours = json.loads(metadata["psu_deploy"])
    assert ours["dt"] == 1e-4
    assert ours["flavour"] == dialect
    assert ours["fidelity"] == "faithful"
    assert ours["approximations"] == []
    assert ours["machine_hash"] == machine.content_hash
    assert tuple(ours["input_shape"]) == machine.input_shape
    assert tuple(ours["output_shape"]) == machine.shapes[machine.output]
    assert ours["static_input"] == machine.static_input
    assert ours["neurons"].keys() == set(machine.spiking)
    assert {"nir", "torch", "numpy"} <= ours["versions"].keys()
    from psu_deploy.exporters.nir.files import read_metadata

    assert read_metadata(graph_of(path))["dt"] == 1e-4


def test_neuron_nodes_are_as_in_the_metadata(file_of, graph_of):
    """The spikes of a layer are those of one node: a Threshold in the canonical file."""
    graph = graph_of(file_of("two neuron layers", "canonical"))
    neurons = json.loads(graph.metadata["psu_deploy"])["neurons"]
    assert [type(graph.nodes[n["node"]]).__name__ for n in neurons.values()] == ["Threshold", "Threshold"]
    assert [n["shape"] for n in neurons.values()] == [[6], [5]]


@pytest.mark.full
@pytest.mark.parametrize("dialect", DIALECTS)
def test_two_exports_are_the_same(tmp_path, graph_of, monkeypatch, dialect):
    """All but the bytes, in which HDF5 notes the time."""
    machine = MACHINES["two neuron layers"]
    paths = [psu.export(machine, tmp_path / f"{n}.nir", target="nir", simulator=dialect).path for n in "ab"]
    first, second = map(graph_of, paths)
    assert first.edges == second.edges
    assert first.metadata == second.metadata
    assert first.nodes.keys() == second.nodes.keys()
    for name, node in first.nodes.items():
        for field, value in vars(node).items():
            np.testing.assert_equal(value, vars(second.nodes[name])[field], err_msg=f"{name}.{field}")


@pytest.mark.full
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_layer_of_128_neurons_is_small(tmp_path, monkeypatch, dialect):
    from psu_deploy.exporters.nir.export import export

    monkeypatch.setitem(export.__globals__, "self_check", lambda *_: None)
    unit = neuron(LEAK, None, STRICT, estimator=stairs(15))
    machine = chain((64,), linear(128, 64), unit, linear(10, 128))
    path = psu.export(machine, tmp_path / "net.nir", target="nir", simulator=dialect).path
    assert path.stat().st_size < 2_000_000


def test_the_canonical_psu_node_by_node(file_of, graph_of):
    """As the README of the folder says: LI, thresholds, LI, sum."""
    graph = graph_of(file_of("psu, 3 level(s)", "canonical"))
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items() if name.startswith("b_")}
    assert kinds == {
        "b__memory": "LI",
        "b__levels": "Affine",
        "b__staircase": "Threshold",
        "b__estimate": "Affine",
        "b__reset": "LI",
        "b__minus_reset": "Scale",
        "b__spikes": "Threshold",
    }
    memory, reset = graph.nodes["b__memory"], graph.nodes["b__reset"]
    unit = FAMILY["psu, 3 level(s)"]
    np.testing.assert_allclose(1 - 1e-4 / memory.tau, unit.integrate.decay)
    np.testing.assert_allclose(memory.r * 1e-4 / memory.tau, unit.integrate.gain)
    np.testing.assert_allclose(1 - 1e-4 / reset.tau, unit.reset.decay)
    np.testing.assert_allclose(reset.r * 1e-4 / reset.tau, 1.0)
    assert sorted({b for a, b in graph.edges if a == "b__memory"}) == ["b__levels", "b__spikes"]


@pytest.mark.parametrize("layer", [ops.Readout("last"), ops.Filter(o.Identity()), ops.Flatten()])
def test_a_network_that_changes_nothing(layer, tmp_path):
    """Between the input and the output of a file stands something, and it changes nothing either."""
    machine = chain((3,), layer)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    artifact = psu.export(machine, tmp_path / "net.nir", target="nir")
    np.testing.assert_array_equal(psu.load(artifact).run(x), x)
