"""Every reader, fed what is nearly right: it reads, or says in one sentence why not. Nothing else ever.

Bytes that flip and files that end early; and edits that know the format: values of JSON, names, sizes, attributes.
"""

from __future__ import annotations

import copy
import json
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import psu_deploy as psu
from psu_deploy.cli.sources import read_array
from psu_deploy.errors import InternalError, PsuDeployError
from psu_deploy.importers import nir as nir_capture
from psu_deploy.importers import official
from psu_deploy.machine import StateMachine, ops, storage
from psu_deploy.training import weights
from psu_deploy.training.recipe import Recipe
from tests.amount import tries
from tests.importers.published import SeCifarNet
from tests.machine.test_storage import places, rewritten
from tests.zoo import NEURONS, chain


def examples(count):
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=tries(count), deadline=None, suppress_health_check=quiet)


@contextmanager
def nothing_but_sentences():
    try:
        yield
    except PsuDeployError as error:
        if isinstance(error, InternalError):
            raise AssertionError(f"a promise of ours was broken: {error}") from error


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 3, 2**31, 2**63, 10**9, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "a", "a.V", "step", "float32", "\x1b[31m", "\udc80", "\u202e", "y" * 300]),
    st.sampled_from([[], {}, [[]], [0], [-1], [10**9], [10**9] * 3, [3], {"a": 1}, {"type": "Leak"}, {"tensor": "x"}]),
)


@st.composite
def flipped(draw, content):
    """Some bytes changed, and perhaps the end gone."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.one_of(st.just(len(changed)), st.integers(0, len(changed))))])


def edited(draw, tree):
    """One value anywhere in nested JSON replaced, removed or put twice."""
    tree = copy.deepcopy(tree)
    place = draw(st.sampled_from(list(places(tree))))
    owner = tree
    for key in place[:-1]:
        owner = owner[key]
    if draw(st.integers(0, 4)):
        owner[place[-1]] = draw(VALUES)
    else:
        del owner[place[-1]]
    return tree


class Reader:
    """A good file of one kind, how it is read, and a place for bad ones."""

    def __init__(self, folder, suffix, read, write):
        self.path, self.read = folder / f"fuzzed{suffix}", read
        self.good = folder / f"good{suffix}"
        write(self.good)
        self.content = self.good.read_bytes()

    def survives(self, content):
        self.path.write_bytes(content)
        with nothing_but_sentences():
            self.read(self.path)


def _run(runner):
    runner.reset(2)
    runner.step(np.zeros((2, *runner.input_shape), np.float32))


def _machine(path):
    machine = StateMachine.load(path)
    machine.summary()
    machine.run(np.zeros((1, 1, *machine.input_shape), np.float32))


@pytest.fixture(scope="module")
def psm(tmp_path_factory):
    machine = chain((2, 6, 5), ops.MaxPool((2, 2), (2, 2), ((0, 0), (1, 0))), ops.Delay(2), NEURONS["rpsu"])
    return Reader(tmp_path_factory.mktemp("psm"), ".psm", _machine, machine.save)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    machine = chain((2, 6, 5), ops.MaxPool((2, 2), (2, 2), ((0, 0), (1, 0))), ops.Hold(), NEURONS["rpsu"])
    write = lambda path: psu.export(machine, path)  # noqa: E731
    return Reader(tmp_path_factory.mktemp("onnx"), ".onnx", lambda path: _run(psu.load(path)), write)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    write = lambda path: SeCifarNet("ppsu", 2).make().save(path)  # noqa: E731
    read = lambda path: official.load(path, "ppsu")  # noqa: E731
    return Reader(tmp_path_factory.mktemp("pth"), ".pth", read, write)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    write = lambda path: np.save(path, np.zeros((3, 2), np.float32))  # noqa: E731
    return Reader(tmp_path_factory.mktemp("npy"), ".npy", read_array, write)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return Reader(tmp_path_factory.mktemp("json"), ".json", Recipe.load, Recipe().save)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    nir = pytest.importorskip("nir")

    def write(path):
        ends = {"in": nir.Input(np.array([2, 4, 4])), "out": nir.Output(np.array([3, 4, 4]))}
        conv = nir.Conv2d((4, 4), np.ones((3, 2, 3, 3)), 1, 1, 1, 1, np.zeros(3))
        numbers = {"tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
        lif = nir.LIF(**{name: np.full((3, 4, 4), value) for name, value in numbers.items()})
        edges = [("in", "conv"), ("conv", "lif"), ("lif", "out")]
        nir.write(path, nir.NIRGraph({**ends, "conv": conv, "lif": lif}, edges, {"dt": 1e-3}), compression=None)

    return Reader(tmp_path_factory.mktemp("nir"), ".nir", nir_capture.load, write)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    x = np.random.default_rng(0).random((3, 2, 3)).astype(np.float32)
    machine = chain((3,), ops.Linear(np.ones((2, 3))), NEURONS["rpsu"], ops.Linear(np.ones((2, 2))))
    write = lambda path: psu.export(machine, path, target="lava", calibration=x)  # noqa: E731
    read = lambda path: _run(psu.load(path, simulator="integer"))  # noqa: E731
    return Reader(tmp_path_factory.mktemp("net"), ".net", read, write)


@pytest.mark.full
@pytest.mark.parametrize("name", ["psm", "model", "checkpoint", "array", "recipe", "graph", "net"])
def test_the_good_file_is_read(name, request):
    reader = request.getfixturevalue(name)
    reader.read(reader.good)


@pytest.mark.full
@pytest.mark.parametrize("name", ["psm", "model", "checkpoint", "array", "recipe"])
def test_bytes(name, request):
    reader = request.getfixturevalue(name)

    @examples(30)
    @given(st.data())
    def every(data):
        reader.survives(data.draw(flipped(reader.content)))

    every()


@pytest.mark.full
@pytest.mark.parametrize("name", ["graph", "net"])
def test_bytes_of_hdf5(name, request, monkeypatch):
    """Few: another process reads each first."""
    reader = request.getfixturevalue(name)
    monkeypatch.setenv("PSU_DEPLOY_MAX_SECONDS", "10")

    @examples(6)
    @given(st.data())
    def every(data):
        reader.survives(data.draw(flipped(reader.content)))

    every()


@pytest.mark.full
@pytest.mark.parametrize("name", ["graph", "net"])
def test_values_of_hdf5(name, request, monkeypatch):
    """A dataset replaced by another: whole files, so that nothing hangs."""
    reader = request.getfixturevalue(name)
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
    with h5py.File(reader.good) as file:
        found = []
        file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None)
    numbers = st.sampled_from([0, -1, 1, 2**31 - 1, 10**9, 2**62, 0.5, np.nan, np.inf, -np.inf, 1e300, 1e-320])
    shapes = st.sampled_from([(), (0,), (1,), (2,), (3,), (2, 2), (3, 2, 3, 3), (1,) * 20])
    texts = st.sampled_from(["", "x", "same", "{", "{}", "[]", "Affine", "dense", "\x1b[31m", "1e999", "y" * 1000])

    @examples(30)
    @given(st.sampled_from(found), st.one_of(texts, st.builds(np.full, shapes, numbers)))
    def every(place, value):
        reader.path.write_bytes(reader.content)
        with h5py.File(reader.path, "r+") as file:
            del file[place]
            file[place] = value
        reader.survives(reader.path.read_bytes())

    every()


def test_a_graph_whose_type_is_an_array(graph, monkeypatch):
    """Found by the test above."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
    graph.path.write_bytes(graph.content)
    with h5py.File(graph.path, "r+") as file:
        del file["node/type"]
        file["node/type"] = np.zeros(0)
    with pytest.raises(psu.ArtifactError, match="holds no NIR graph"):
        graph.read(graph.path)


@pytest.mark.full
def test_metadata_of_net(net, monkeypatch):
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
    with h5py.File(net.good) as file:
        (place,) = [key for key in file if "metadata" in file[key]]
        metadata = json.loads(file[place]["metadata"][()])

    @examples(30)
    @given(st.data())
    def every(data):
        net.path.write_bytes(net.content)
        with h5py.File(net.path, "r+") as file:
            del file[place]["metadata"]
            file[place]["metadata"] = json.dumps(edited(data.draw, metadata))
        net.survives(net.path.read_bytes())

    every()


@pytest.mark.full
def test_graphs_of_machines(psm, monkeypatch):
    """By somebody who can compute the right hash."""
    monkeypatch.setattr(storage, "content_hash", lambda graph: "right")
    length = int.from_bytes(psm.content[:8], "little")
    tree = json.loads(json.loads(psm.content[8 : 8 + length])["__metadata__"]["machine"])

    @examples(80)
    @given(st.data())
    def every(data):
        text = json.dumps(edited(data.draw, tree))
        psm.survives(rewritten(psm.good, lambda metadata: metadata | {"machine": text, "hash": "right"}))

    every()


@pytest.mark.full
def test_metadata_of_onnx(model):
    original = onnx.load_model_from_string(model.content)
    tree = {entry.key: json.loads(entry.value) for entry in original.metadata_props}

    @examples(80)
    @given(st.data())
    def every(data):
        changed = onnx.ModelProto()
        changed.CopyFrom(original)
        del changed.metadata_props[:]
        for key, value in edited(data.draw, tree).items():
            changed.metadata_props.add(key=key, value=json.dumps(value))
        model.survives(changed.SerializeToString())

    every()


@pytest.mark.full
def test_graphs_of_onnx(model):
    """Sizes, attributes, operators, names."""
    original = onnx.load_model_from_string(model.content)
    words = sorted({node.op_type for node in original.graph.node} | {"Loop", "Range", "Identity", "Concat", ""})
    names = sorted({name for node in original.graph.node for name in (*node.input, *node.output)} | {"", "x", "y"})
    sizes = st.sampled_from([-1, 0, 1, 2, 5, 2**31, 2**40, 2**63 - 1])

    def change(draw, graph):
        node = draw(st.sampled_from(list(graph.node)))
        match draw(st.integers(0, 5)):
            case 0:
                node.op_type = draw(st.sampled_from(words))
            case 1 if node.input:
                node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))
            case 2 if node.attribute:
                attribute = draw(st.sampled_from(list(node.attribute)))
                attribute.i = draw(sizes)
                attribute.ints[:] = [draw(sizes) for _ in attribute.ints]
            case 3:
                value = draw(st.sampled_from([*graph.input, *graph.output]))
                for axis in value.type.tensor_type.shape.dim:
                    axis.dim_value = draw(sizes)
            case 4 if graph.initializer:
                weight = draw(st.sampled_from(list(graph.initializer)))
                if weight.data_type == onnx.TensorProto.INT64:
                    count = len(weight.raw_data) // 8
                    weight.raw_data = np.array([draw(sizes) for _ in range(count)], np.int64).tobytes()
                else:
                    weight.dims[:] = [draw(sizes) for _ in weight.dims]
            case _:
                node.output[0] = draw(st.sampled_from(names))

    @examples(80)
    @given(st.data())
    def every(data):
        changed = onnx.ModelProto()
        changed.CopyFrom(original)
        for _ in range(data.draw(st.integers(1, 2))):
            change(data.draw, changed.graph)
        model.survives(changed.SerializeToString())

    every()


@pytest.mark.full
def test_recipes(recipe):
    tree = json.loads(recipe.content)

    @examples(80)
    @given(st.data())
    def every(data):
        recipe.survives(json.dumps(edited(data.draw, tree)).encode())

    every()


@pytest.mark.full
def test_headers_of_arrays(array):
    """Python in a header, as numpy evaluates it."""
    pieces = ["'descr'", "'<f4'", "'|O'", "'shape'", "'fortran_order'", "True", "None", "(", ")", "[", "]", "{", "}"]
    pieces += [":", ",", "-", "1", "10**9", str(2**63), "'V8'", "[('a', '<f4')]", "\x00", "\xff", "1e999", "'M8[s]'"]

    @examples(80)
    @given(st.lists(st.sampled_from(pieces), max_size=12), st.integers(0, 110))
    def every(words, place):
        text = "".join(words).encode("latin1")
        array.survives(array.content[: 10 + place] + text + array.content[10 + place + len(text) :])

    every()


@pytest.mark.full
def test_pickles_of_checkpoints(checkpoint):
    """Bytes of the program alone: the archive around it stays whole."""
    with zipfile.ZipFile(checkpoint.good) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    (program,) = (name for name in records if name.endswith("/data.pkl"))

    @examples(40)
    @given(st.data())
    def every(data):
        changed = records | {program: data.draw(flipped(records[program]))}
        with zipfile.ZipFile(checkpoint.path, "w") as archive:
            for name, content in changed.items():
                archive.writestr(name, content)
        checkpoint.survives(Path(checkpoint.path).read_bytes())

    every()


@pytest.mark.full
def test_tensors_of_checkpoints(checkpoint):
    """Any parameter of any other shape and kind."""
    state = SeCifarNet("ppsu", 2).make().state
    kinds = ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "int64", "uint16", "bool")
    shapes = st.sampled_from([(), (0,), (1,), (2, 2), (6, 3, 3), (0, 3, 3), (1,) * 9])

    @examples(30)
    @given(st.sampled_from(sorted(state)), shapes, st.sampled_from(kinds), st.sampled_from([0.0, 1.0, 1e30, -1.0]))
    def every(key, shape, kind, value):
        tensor = torch.full(shape, value).to(getattr(torch, kind))
        torch.save({"state_dict": {**state, key: tensor}}, checkpoint.path)
        checkpoint.survives(checkpoint.path.read_bytes())

    every()


def test_training_checkpoints(tmp_path):
    good = tmp_path / "good.ckpt"
    torch.save({"epoch": 1, "state_dict": {"a": torch.zeros(3)}, "optimizer_states": [], "lr_schedulers": []}, good)
    content = good.read_bytes()
    weights.load_checkpoint(good)

    @examples(30)
    @given(st.data())
    def every(data):
        path = tmp_path / "fuzzed.ckpt"
        path.write_bytes(data.draw(flipped(content)))
        with nothing_but_sentences():
            weights.load_checkpoint(path)

    every()


@pytest.mark.parametrize(
    "change",
    [{"epoch": "1"}, {"epoch": -1}, {"epoch": 10**30}, {"state_dict": [1]}, {"state_dict": {1: torch.zeros(1)}}],
)
def test_training_checkpoints_of_other_contents(tmp_path, change):
    whole = {"epoch": 1, "state_dict": {"a": torch.zeros(3)}, "optimizer_states": [], "lr_schedulers": []}
    torch.save(whole | change, tmp_path / "changed.ckpt")
    with pytest.raises(psu.ArtifactError, match=r"changed\.ckpt is not the checkpoint of a run"):
        weights.load_checkpoint(tmp_path / "changed.ckpt")
