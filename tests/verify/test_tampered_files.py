"""A file in which any one number, attribute or comparison is another is found, whether or not a spike on x shows it.

Every edit is made to the file by its own library, so that it loads and runs as if it had been written like that.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from tests.zoo import BANDED, LEARNED, STAIRS, chain, neuron, normal

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every HDF5 file first, in case it is damaged. Here only numbers are others."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)


LEAK, STRICT = o.Leak(0.4, 0.6), o.StrictLeak(0.7, 0.6)
T, B = 6, 4
X = np.random.default_rng(0).normal(0.3, 1.5, (T, B, 5)).astype(np.float32)

DENSE = chain(
    (5,), ops.Linear(normal(8, 5), normal(8)), neuron(LEAK, None, STRICT), ops.Linear(normal(3, 8), normal(3))
)
NETWORKS = {
    "psu": DENSE,
    "learned": chain((5,), ops.Linear(normal(6, 5)), neuron(LEAK, LEARNED, STRICT), ops.Linear(normal(2, 6))),
    "window, lif": chain(
        (5,), neuron(BANDED, None, None), ops.Linear(normal(4, 5)), ops.LIFNeuron(2.0, True, 0.4, "soft", ">")
    ),
    "staircase": chain((5,), neuron(LEAK, None, STRICT, estimator=STAIRS), ops.Readout("mean")),
    "at random": chain((5,), ops.BernoulliNeuron(LEAK, 3), ops.Linear(normal(2, 5))),
    "held": StateMachine(
        (Node("w", ops.Linear(normal(4, 5)), ("x",)), Node("h", ops.Hold(), ("w",)), Node("n", neuron(LEAK), ("h",))),
        (5,),
    ),
}


def still(machine):
    """Input of a shape and kind that the machine takes."""
    return np.repeat(X[:1], T, axis=0) if machine.static_input else X


def verdict_on(machine, path, **options):
    return psu.verify(machine, psu.load(path, **options), still(machine))


# ---- ONNX


def graphs_in(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs_in(attribute.g)


def next_float(constant):
    """The last number of a constant, moved by the smallest amount there is."""
    values = numpy_helper.to_array(constant).copy()
    flat = values.reshape(-1)
    flat[-1] = np.nextafter(flat[-1], np.float32(np.inf)) if values.dtype == np.float32 else flat[-1] + 1
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))


def onnx_edits(model):
    """(what, function that makes one change to a model like this one)."""
    for index, constant in enumerate(model.graph.initializer):
        yield f"constant {constant.name}", lambda m, i=index: next_float(m.graph.initializer[i])
    swaps = {"Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater", "Add": "Sub", "Sub": "Add", "Sigmoid": "Tanh"}
    for depth, graph in enumerate(graphs_in(model.graph)):
        for index, node in enumerate(graph.node):
            if node.op_type in swaps:
                yield node.name, lambda m, d=depth, i=index: setattr(at(m, d, i), "op_type", swaps[at(m, d, i).op_type])
            for place, attribute in enumerate(node.attribute):
                if attribute.type == onnx.AttributeProto.FLOAT:
                    yield attribute.name, lambda m, d=depth, i=index, p=place: halve(at(m, d, i).attribute[p])


def at(model, depth, index):
    return list(graphs_in(model.graph))[depth].node[index]


def halve(attribute):
    attribute.f = (attribute.f or 1.0) / 2


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_edit_of_a_step_graph_is_found(name, tmp_path):
    machine, path = NETWORKS[name], tmp_path / "net.onnx"
    psu.export(machine, path)
    good = path.read_bytes()
    assert verdict_on(machine, path).ok
    kept, silent = 0, 0
    for what, edit in onnx_edits(onnx.load_from_string(good)):
        model = onnx.load_from_string(good)
        edit(model)
        path.write_bytes(model.SerializeToString())
        try:
            report = verdict_on(machine, path)
        except psu.ArtifactError:
            continue  # what does not load cannot be taken for the network
        kept += 1
        silent += report.spike_flips == 0
        assert not report.ok, what
        assert report.differences, what
    assert kept >= 5
    assert silent >= 3, "most of these edits change no spike on this input: the file itself has to tell"


def test_the_first_difference_is_named(tmp_path):
    """What, where, what is there and what should be."""
    path = tmp_path / "net.onnx"
    psu.export(DENSE, path)
    model = onnx.load(path)
    constant = next(c for c in model.graph.initializer if c.name == "a.weight")
    values = numpy_helper.to_array(constant).copy()
    was = values[3, 2]
    values[3, 2] = 7.5
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    onnx.save(model, path)
    report = verdict_on(DENSE, path)
    said = f"constant 'a.weight' is 7.5 at (3, 2), exporting this network gives {float(was)!r}"
    assert report.differences == (said,)
    assert report.verdict.startswith(f"NOT EQUIVALENT: {said}; ")
    assert f"the file: {said}" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["structure"]["differences"] == [said]


@pytest.mark.parametrize(
    ("threshold", "fire_on"), [(0.4 + 1e-6, ">="), (0.4, ">")], ids=["moved by a millionth", "> for >="]
)
def test_a_decision_is_read_from_the_graph(threshold, fire_on, tmp_path):
    """Metadata that still tell of the old one do not help, nor does another version of the writer."""
    wrong = chain((5,), ops.Linear(normal(8, 5)), neuron(LEAK, None, STRICT, threshold=threshold, fire_on=fire_on))
    right = chain((5,), ops.Linear(normal(8, 5)), neuron(LEAK, None, STRICT))
    for machine, name in ((wrong, "wrong"), (right, "right")):
        psu.export(machine, tmp_path / f"{name}.onnx")
    model, other = onnx.load(tmp_path / "wrong.onnx"), onnx.load(tmp_path / "right.onnx")
    del model.metadata_props[:]
    model.metadata_props.extend(other.metadata_props)
    for entry in model.metadata_props:
        if entry.key == "psu_deploy.versions":
            entry.value = json.dumps(json.loads(entry.value) | {"psu-deploy": "0.0.1"})
    onnx.save(model, tmp_path / "wrong.onnx")
    report = verdict_on(right, tmp_path / "wrong.onnx")
    assert report.spike_flips == 0
    (difference,) = report.differences
    assert difference == (
        f"layer 'b' fires at {fire_on} {float(np.float32(threshold))!r}, "
        f"exporting this network gives >= {float(np.float32(0.4))!r}"
    )


def written_by(path, version):
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == "psu_deploy.versions":
            entry.value = json.dumps(json.loads(entry.value) | {"psu-deploy": version})
    onnx.save(model, path)


def test_a_file_of_another_version_is_judged_by_what_it_does(tmp_path):
    """It may spell the same network otherwise. Where it does not, its numbers are held against an export as ever."""
    path = tmp_path / "net.onnx"
    psu.export(DENSE, path)
    written_by(path, "0.0.1")
    assert verdict_on(DENSE, path).verdict.startswith("EQUIVALENT: ")
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = f"older_{node.name}"
        for index, name in enumerate(node.input):
            node.input[index] = "older" if name == "a" else name
        for index, name in enumerate(node.output):
            node.output[index] = "older" if name == "a" else name
    onnx.save(model, path)
    report = verdict_on(DENSE, path)
    assert report.ok
    assert report.verdict.startswith("EQUIVALENT (behaviour only: psu-deploy 0.0.1 wrote the file, this is ")
    next_float(model.graph.initializer[0])
    written_by(path, psu.__version__)
    assert not verdict_on(DENSE, path).ok


def test_a_number_added_to_a_step_graph_is_found(tmp_path):
    """Constants and nodes that nobody asked for, read or not."""
    path = tmp_path / "net.onnx"
    psu.export(DENSE, path)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.float32([1.0]), "stowaway"))
    onnx.save(model, path)
    assert "constant 'stowaway' should not be there" in verdict_on(DENSE, path).verdict


# ---- NIR and Lava: every dataset of the file, one number at a time


def datasets_of(path, group):
    found = []
    with h5py.File(path) as file:
        file[group].visititems(lambda name, item: found.append(f"{group}/{name}"))
        found = [name for name in found if isinstance(file[name], h5py.Dataset)]
        return [name for name in found if file[name].dtype.kind in "iuf" and file[name].size]


def change(path, name, place):
    """One number of a dataset: a whole one by one, a real one by the smallest amount there is."""
    with h5py.File(path, "r+") as file:
        values = np.array(file[name])
        flat = values.reshape(-1)
        if values.dtype.kind == "f":
            flat[place] = np.nextafter(flat[place], np.inf, dtype=values.dtype)
        else:
            flat[place] = flat[place] + 1 if flat[place] < np.iinfo(values.dtype).max else flat[place] - 1
        file[name][...] = flat.reshape(values.shape)


PREPARED = chain(
    (5,), ops.Linear(normal(8, 5), normal(8)), neuron(LEAK, None, STRICT, estimator=STAIRS), ops.Linear(normal(3, 8)),
    neuron(o.Window(normal(1, 3), normal(1), True)),
)  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("dialect", ["canonical", "portable"])
def test_every_number_of_a_nir_file_counts(dialect, tmp_path):
    good, path = tmp_path / "good.nir", tmp_path / "net.nir"
    psu.export(PREPARED, good, target="nir", simulator=None if dialect == "canonical" else dialect)
    assert verdict_on(PREPARED, good).ok
    names = datasets_of(good, "node/nodes")
    assert len(names) > 10
    names = names[::2] if dialect == "canonical" else names[1::4]
    kept = silent = 0
    for name in names:
        path.write_bytes(good.read_bytes())
        change(path, name, -1)
        try:
            report = verdict_on(PREPARED, path)
        except psu.ArtifactError:
            continue
        kept += 1
        silent += report.spike_flips == 0
        assert not report.ok, name
        assert any(name.split("/")[2] in difference for difference in report.differences), name
    assert kept > 2
    assert silent > 0


def test_the_levels_of_an_approximation_are_known(tmp_path):
    """Staircases that no training knew of are part of what is held against the file."""
    path, options = tmp_path / "net.nir", {"allow_approximation": True, "calibration": X, "max_flip_rate": 1.0}
    psu.export(DENSE, path, target="nir", **options)
    assert verdict_on(DENSE, path).differences == ()
    (name,) = [n for n in datasets_of(path, "node/nodes") if "staircase" in n and n.endswith("threshold")]
    change(path, name, 0)
    assert len(verdict_on(DENSE, path).differences) == 1


CONV = ops.Conv2d(normal(3, 1, 3, 3), normal(3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
LAVA = {
    "psu": DENSE,
    "staircase": PREPARED,
    "learned": NETWORKS["learned"],
    "lif": chain((5,), ops.Linear(normal(6, 5)), ops.LIFNeuron(2.0, True, 0.4, "hard", ">="), ops.Linear(normal(2, 6))),
    "image": chain((1, 5, 5), CONV, neuron(LEAK, None, STRICT), ops.Flatten(), ops.Linear(normal(2, 75))),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", LAVA)
def test_every_integer_of_a_lava_file_counts(name, tmp_path):
    machine, good, path = LAVA[name], tmp_path / "good.net", tmp_path / "net.net"
    x = np.random.default_rng(1).normal(0.3, 1.5, (T, B, *machine.input_shape)).astype(np.float32)
    psu.export(machine, good, target="lava", calibration=x)
    assert psu.verify(machine, psu.load(good, simulator="integer"), x).ok
    kept = 0
    datasets = datasets_of(good, "layer")
    for index, dataset in enumerate(datasets if name == "psu" else datasets[3::4]):
        path.write_bytes(good.read_bytes())
        change(path, dataset, -(index % 2))
        try:
            report = psu.verify(machine, psu.load(path, simulator="integer"), x)
        except psu.ArtifactError:
            continue
        kept += 1
        assert not report.ok, dataset
        assert report.verdict.startswith("NOT EQUIVALENT: "), dataset
        assert any(f"/{dataset}" in difference for difference in report.differences), dataset
    assert kept > (8 if name == "psu" else 0)


def edited_metadata(path, **changes):
    with h5py.File(path, "r+") as file:
        facts = json.loads(file["psu_deploy/metadata"][()])
        for key, value in changes.items():
            facts[key] = facts[key] | value if isinstance(value, dict) else value
        del file["psu_deploy/metadata"]
        file["psu_deploy/metadata"] = json.dumps(facts)


CODES = [{"code": {"high": 200}}, {"code": {"unit": 0.01}}, {"calibration": {"largest": 3.0}}]


@pytest.mark.parametrize("edit", [*CODES, {"readout": "sum"}, {"units": [0.5]}], ids=lambda edit: next(iter(edit)))
def test_what_a_lava_file_says_beside_its_integers_counts(edit, tmp_path):
    path = tmp_path / "net.net"
    psu.export(DENSE, path, target="lava", calibration=X)
    edited_metadata(path, **edit)
    assert not psu.verify(DENSE, psu.load(path, simulator="integer"), X).ok


def test_a_lava_file_of_another_version_proves_nothing(tmp_path):
    """Its integers cannot be made again, and what rounding did has no bound of its own."""
    path = tmp_path / "net.net"
    psu.export(DENSE, path, target="lava", calibration=X)
    edited_metadata(path, versions={"psu-deploy": "0.0.1"})
    assert psu.verify(DENSE, psu.load(path, simulator="integer"), X).ok
    change(path, "layer/1/bias", 0)
    report = psu.verify(DENSE, psu.load(path, simulator="integer"), X)
    assert report.verdict.startswith(
        "NOT PROVEN: its rounded numbers were not held against those of an export: psu-deploy 0.0.1"
    )
