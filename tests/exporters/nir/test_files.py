"""A file that is missing, damaged, not ours, or made for another simulator is one clear error that names it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import psu_deploy as psu
from tests.exporters.nir.importing.nir_graphs import nir, optional
from tests.exporters.nir.machines import PSU, chain, linear

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what simulators use is theirs to mend

h5py = optional("h5py")
ABSENT = object()


@pytest.fixture(autouse=True)
def _no_rehearsal():
    """These files are damaged: they are read as a user's are."""


@pytest.fixture
def quickly(monkeypatch):
    """Where only the metadata are wrong, nobody has to read the file first."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good file, portable."""
    machine = chain((3,), linear(4, 3), PSU, linear(2, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None, raising=False)
        path = tmp_path_factory.mktemp("good") / "net.nir"
        return psu.export(machine, path, target="nir", simulator="portable").path


@pytest.fixture
def changed(good, tmp_path):
    """A copy of the good file with other metadata of ours; ABSENT removes a key, text replaces all of it."""

    def change(text=None, **values):
        path = shutil.copy(good, tmp_path / "net.nir")
        with h5py.File(path, "r+") as file:
            metadata = json.loads(file["node/metadata/psu_deploy"].asstr()[()]) | values
            kept = {key: value for key, value in metadata.items() if value is not ABSENT}
            del file["node/metadata/psu_deploy"]
            file["node/metadata/psu_deploy"] = json.dumps(kept) if text is None else text
        return path

    return change


@pytest.mark.full
def test_it_is_what_nir_itself_writes(good, tmp_path):
    """The same groups, numbers, types and compression, though HDF5 never saw the disk."""
    nir.write(tmp_path / "again.nir", nir.read(good))
    ours, theirs = (walked(path) for path in (good, tmp_path / "again.nir"))
    assert ours == theirs
    assert any(name.endswith("weight") for name in ours)


def walked(path):
    """Everything in an HDF5 file: name -> what is there, and how it is stored."""
    found = {}

    def visit(name, item):
        kind = (item.dtype, item.shape, item.compression, item.chunks) if isinstance(item, h5py.Dataset) else "group"
        value = np.asarray(item[()]).tobytes() if isinstance(item, h5py.Dataset) and item.dtype != object else None
        text = item[()] if isinstance(item, h5py.Dataset) and item.dtype == object and not item.shape else None
        found[name] = (kind, value, text, dict(item.attrs))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def refused(path, message=None, **options):
    with pytest.raises(psu.ArtifactError, match=message) as error:
        psu.load(path, **options)
    assert str(path) in str(error.value)


def test_the_good_file_loads(quickly, changed):
    assert psu.load(changed()).run(np.zeros((1, 1, 3), np.float32)).shape == (1, 1, 2)


def test_missing(tmp_path):
    refused(tmp_path / "nowhere.nir", "does not exist or is not a file")


def test_a_folder(tmp_path):
    (tmp_path / "net.nir").mkdir()
    refused(tmp_path / "net.nir", "does not exist or is not a file")


@pytest.mark.full
@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_not_hdf5(tmp_path, content):
    (tmp_path / "net.nir").write_bytes(content)
    refused(tmp_path / "net.nir", "truncated, damaged or not an HDF5 file")


@pytest.mark.full
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(good, tmp_path, share):
    content = good.read_bytes()
    (tmp_path / "net.nir").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "net.nir")


def test_a_nir_file_of_somebody_else(quickly, tmp_path):
    nodes = {"input": nir.Input(np.array([3])), "a": nir.Linear(np.ones((2, 3))), "output": nir.Output(np.array([2]))}
    path = tmp_path / "net.nir"
    nir.write(str(path), nir.NIRGraph(nodes, [("input", "a"), ("a", "output")]))
    refused(path, r"is a NIR file but was not written by psu-deploy; psu_deploy.importers.nir.load reads it")


def test_an_hdf5_file_of_somebody_else(quickly, tmp_path):
    path = tmp_path / "net.nir"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    refused(path)


def test_our_metadata_on_another_graph(quickly, good, tmp_path):
    graph = nir.read(str(good))
    nodes = {"input": nir.Input(np.array([3])), "a": nir.Linear(np.ones((2, 3))), "output": nir.Output(np.array([2]))}
    path = tmp_path / "net.nir"
    nir.write(str(path), nir.NIRGraph(nodes, [("input", "a"), ("a", "output")], metadata=graph.metadata))
    refused(path, r"the graph has no node \['b__spikes'\]")


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[]", "5", "null", "[" * 100_000])
def test_metadata_that_are_no_dictionary(quickly, changed, text):
    refused(changed(text))


KEYS = (
    *("format", "dt", "flavour", "fidelity", "approximations", "static_input", "machine_hash", "versions"),
    *("input_shape", "output_shape", "readout", "neurons"),
)
NEURON = {"node": "b__spikes", "shape": [4]}
MALFORMED = {
    "format": ["psu-deploy.nir.2", "psu-deploy.onnx.1", None, 1, []],
    "dt": [1e-3, 0, "1e-4", None],
    "flavour": ["brian", None, []],
    "fidelity": ["perfect", None, 5, True],
    "approximations": ["none", None, [1]],
    "static_input": [0, "false", None],
    "machine_hash": [5, None],
    "versions": [[], None, {"nir": 1}],
    "input_shape": [[4], [], 3, ["3"], [3.0], None, [-3]],
    "output_shape": [[3], [], [True, 2], None],
    "readout": ["max", None, 0],
    "neurons": [
        *([], None, {"b": 5}, {"b": {}}, {"b": NEURON | {"node": "nowhere"}}, {"b": NEURON | {"node": 5}}),
        *({"b": NEURON | {"shape": "4"}}, {"b": NEURON | {"more": 1}}, {"b": {"node": "b__spikes"}}),
    ],
}


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key(quickly, changed, key):
    refused(changed(**{key: ABSENT}), "malformed psu_deploy metadata, or is truncated")


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in MALFORMED.items() for value in values])
def test_a_value_of_the_wrong_kind(quickly, changed, key, value):
    refused(changed(**{key: value}), "malformed psu_deploy metadata, or is truncated")


def test_a_neuron_layer_of_another_shape(quickly, changed):
    refused(changed(neurons={"b": NEURON | {"shape": [5]}}), "malformed psu_deploy metadata")


OTHERS = [
    *(("canonical", engine) for engine in ("norse", "snntorch", "spikingjelly", "sinabs", "rockpool")),
    *(("portable", engine) for engine in ("sinabs", "rockpool")),
    *(("norse", engine) for engine in ("snntorch", "spikingjelly", "sinabs")),
    *(("snntorch", engine) for engine in ("norse", "spikingjelly", "sinabs")),
    *(("spikingjelly", engine) for engine in ("norse", "snntorch", "sinabs")),
    *(("sinabs", engine) for engine in ("canonical", "norse", "snntorch", "spikingjelly")),
]


@pytest.mark.parametrize(("dialect", "engine"), OTHERS)
def test_a_file_for_another_simulator(quickly, file_of, dialect, engine):
    message = f'was written for .*, which {engine} does not read alike; export again with simulator="{engine}"'
    refused(file_of("psu, 7 level(s)", dialect), message, simulator=engine)


def test_an_unknown_simulator(quickly, good):
    names = "canonical, norse, snntorch, spikingjelly, sinabs"
    with pytest.raises(psu.InputError, match=f"simulator must be one of {names}.*, got 'brian'"):
        psu.load(good, simulator="brian")


@pytest.mark.parametrize(
    ("dialect", "package"),
    [
        *(("canonical", "psu_deploy"), ("portable", "psu_deploy"), ("norse", "norse"), ("snntorch", "snntorch")),
        *(("spikingjelly", "spikingjelly"), ("sinabs", "sinabs")),
    ],
)
def test_who_runs_a_file_unless_somebody_says(quickly, file_of, dialect, package):
    runner = psu.load(file_of("psu, 7 level(s)", dialect))
    assert runner.name == f"nir in {package}"
    assert psu.load(file_of("psu, 7 level(s)", dialect), simulator=dialect).name == runner.name


def test_the_artifact(quickly, file_of):
    from tests.exporters.nir.machines import MACHINES

    artifact = psu.load(file_of("static input", "portable")).artifact
    assert (artifact.target, artifact.fidelity, artifact.approximations) == ("nir", "faithful", ())
    assert (artifact.horizon, artifact.latency, artifact.static_input) == (None, 0, True)
    assert artifact.machine_hash == MACHINES["static input"].content_hash
    assert artifact.path == file_of("static input", "portable")
    assert {"psu-deploy", "nir"} <= artifact.versions.keys()
