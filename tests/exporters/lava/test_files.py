"""What is written is read again; what is missing, damaged or not ours is one clear error that names the file."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, is_dataclass

import h5py
import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.lava.emit import as_hdf5
from psu_deploy.exporters.lava.read import read
from psu_deploy.machine import ops
from tests import zoo
from tests.exporters.integers import hand_made, oracle
from tests.exporters.integers.hand_made import Numbers, layer
from tests.exporters.integers.test_fixed_point import MAKE

T = 6
REHEARSED = ("test_missing_and_folders", "test_not_hdf5", "test_truncated")


@pytest.fixture(autouse=True)
def _no_rehearsal(request, monkeypatch):
    """Another process reads every file first, in case it is damaged; most of these are read by one alone."""
    if request.node.originalname not in REHEARSED:
        monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)


def machine():
    random = np.random.default_rng(0)
    conv = ops.Conv2d(random.normal(0, 1, (3, 2, 2, 2)), random.normal(0, 1, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    dense, last = (ops.Linear(random.normal(0, 1, shape)) for shape in ((5, 27), (4, 5)))
    learned = zoo.neuron(zoo.LEARNED, zoo.LEAK, zoo.STRICT)
    psu_ = zoo.neuron(zoo.LEAK, None, zoo.STRICTLY_LEARNED, estimator=zoo.STAIRS)
    return oracle.machine((2, 4, 4), conv, learned, ops.Flatten(), dense, psu_, last)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
        x = np.random.default_rng(0).integers(0, 2, (T, 2, 2, 4, 4)).astype(np.float32)
        return psu.export(machine(), tmp_path_factory.mktemp("good") / "net.net", target="lava", calibration=x).path


def same(a, b):
    """Two dataclasses, number for number."""
    assert type(a) is type(b)
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if is_dataclass(left):
            same(left, right)
        elif field.name == "layers":
            for one, other in zip(left, right, strict=True):
                same(one, other)
        elif isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right
            assert type(left) is type(right)


def metadata(network):
    return {
        "format": "psu-deploy.lava/1",
        "machine_hash": "abc",
        "input_shape": list(network.input_shape),
        "output_shape": list(network.layers[-1].shape),
        "readout": "mean",
        "horizon": network.horizon,
        "static_input": False,
        "code": {"unit": network.code.unit, "low": network.code.low, "high": network.code.high},
        "units": network.units.tolist(),
        "layers": [layer.name for layer in network.layers],
        "neurons": {},
        "versions": {},
        "report": REPORT,
    }


REPORT = {
    "layers": [],
    "steps": 1,
    "samples": 1,
    "spikes_compared": 0,
    "flip_rate": 0.0,
    "input_unit": 1.0,
    "input_levels": [0, 1],
    "input_error": 0.0,
    "alarms": [],
    "simulation_only": False,
}


@pytest.mark.parametrize("kind", MAKE)
def test_round_trip(kind, tmp_path):
    """Of every kind of synapse, neuron, operator, estimator and reset."""
    n = Numbers(3, channels=3)

    first = MAKE["leak" if "relay" in kind else kind](n, T)  # whole numbers might be too large for what is behind
    conv, dense = n.conv(4, 3, (2, 2), (1, 1), (1, 0), (1, 2), 1), n.dense(n.channels * 5 * 2)
    layers = (
        ir.IntegerLayer("a b/c", conv, first, (3, 5, 2), False),
        ir.IntegerLayer("ü", dense, MAKE[kind](n, T), (3,), True),
    )
    network = ir.IntegerNetwork(layers, (4, 4, 4), ir.InputCode(0.25, -3, 9), T, np.array([0.5, 1.5, 1e-9]))
    (tmp_path / "net.net").write_bytes(as_hdf5(network, metadata(network)))
    found, said = read(tmp_path / "net.net")
    same(found, network)
    assert said.facts == metadata(network)


def test_the_dialect_is_lava_dls(good):
    """As `lava.lib.dl.netx.hdf5.Network` reads it."""
    with h5py.File(good) as file:
        kinds = [file[f"layer/{i}/type"][()][0].decode() for i in range(len(file["layer"]))]
        assert kinds == ["input", "conv", "flatten", "dense", "dense"]
        for i in (1, 3, 4):
            group = file[f"layer/{i}"]
            assert group["weight"].dtype == np.int8
            assert np.issubdtype(group["bias"].dtype, np.integer)
            assert group["neuron/type"][()][0].decode() in ("PSU", "RELAY")
        assert file["layer/1/weight"].shape == (3, 2, 2, 2)
        for name in ("stride", "padding", "dilation"):
            assert file[f"layer/1/{name}"].shape == (2,)
        assert file["layer/0/shape"][()].tolist() == [2, 4, 4]


def test_hand_made_and_ours_are_one_spelling(tmp_path):
    n = Numbers(0, channels=3)
    layers = (layer(n.dense(4), MAKE["matrix"](n, T), 3), layer(n.dense(3), n.lif(), 3))
    hand_made.write(tmp_path / "net.net", layers, (4,))
    network = ir.IntegerNetwork(layers, (4,), ir.InputCode(1.0, 0, 1), T, np.ones(1))
    with h5py.File(tmp_path / "net.net", "r+") as file:
        del file["psu_deploy/metadata"]
        file["psu_deploy/metadata"] = json.dumps(metadata(network))
    for one, other in zip(read(tmp_path / "net.net")[0].layers, layers, strict=True):
        same(one.synapse, other.synapse)
        same(one.neuron, other.neuron)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def changed(good, tmp_path):
    """A copy of the good file in which something was put, or removed."""

    def change(place=None, value=None, remove=()):
        path = shutil.copy(good, tmp_path / "net.net")
        with h5py.File(path, "r+") as file:
            for name in (*remove, *([place] if place and place in file else [])):
                del file[name]
            if place:
                file[place] = value
        return path

    return change


def refused(path, message=None):
    with pytest.raises(psu.ArtifactError, match=message) as error:
        psu.load(path, simulator="integer")
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert "Error" not in str(error.value)


def test_the_good_file_loads(changed):
    assert psu.load(changed(), simulator="integer").run(np.zeros((1, 1, 2, 4, 4), np.float32)).shape == (1, 1, 4)


W1, RESET = (3, 2, 2, 2), "layer/3/neuron/reset/operator/"
WRONG = {
    "float weights": ("layer/1/weight", np.ones(W1, np.float32), "'weight' holds float32, expected whole numbers"),
    "weights out of range": ("layer/1/weight", np.full(W1, -128, np.int8), r"must be whole numbers in -127\.\.127"),
    "weights of 16 bits": ("layer/1/weight", np.full(W1, 128, np.int16), r"must be whole numbers in -127\.\.127"),
    "weights of another shape": ("layer/1/weight", np.ones((3, 2, 3, 2), np.int8), "do not lead from"),
    "weights of other groups": ("layer/1/groups", np.int32(2), "do not lead from"),
    "groups of nothing": ("layer/1/groups", np.int32(0), "'groups'"),
    "three axes": ("layer/1/weight", np.ones((3, 2, 4), np.int8), "have 4 axes"),
    "no weights": ("layer/1/weight", np.ones((0, 2, 2, 2), np.int8), "malformed"),
    "a wide dense layer": ("layer/3/weight", np.ones((5, 28), np.int8), "do not lead from"),
    "float bias": ("layer/1/bias", np.zeros(3), "'bias' holds float64"),
    "short bias": ("layer/1/bias", np.zeros(2, np.int32), "'bias' has shape"),
    "huge bias": ("layer/1/bias", np.full(3, 2**23, np.int32), "'bias'"),
    "stride of nothing": ("layer/1/stride", np.array([0, 1], np.int32), "'stride'"),
    "negative padding": ("layer/1/padding", np.array([0, -1], np.int32), "'padding'"),
    "one dilation": ("layer/1/dilation", np.array([1], np.int32), "'dilation'"),
    "padding that does not fit": ("layer/1/padding", np.array([1, 1], np.int32), "do not lead from"),
    "another shape": ("layer/1/shape", np.array([3, 3, 4], np.int32), "do not lead from"),
    "a shape of no one": ("layer/0/shape", np.array([], np.int32), "'shape'"),
    "another input": ("layer/0/shape", np.array([2, 4, 5], np.int32), "do not lead from"),
    "a float shape": ("layer/0/shape", np.array([2.0, 4.0, 4.0]), "'shape' holds float64"),
    "an unknown layer": ("layer/1/type", np.array([b"pool"], "S10"), "netx would pass over it in silence"),
    "a layer of two types": ("layer/1/type", np.array([b"conv", b"conv"], "S10"), "is of type ''"),
    "no input": ("layer/0/type", np.array([b"dense"], "S10"), r"must be 0 \(an input\)"),
    "an unknown neuron": ("layer/1/neuron/type", np.array([b"ALIF"], "S10"), "neurons of type 'ALIF'"),
    "a neuron of lava-dl": ("layer/1/neuron/type", np.array([b"CUBA"], "S10"), "'iDecay' is missing"),
    "too many fraction bits": ("layer/1/neuron/up", np.int32(9), r"'up' must be whole numbers in 0\.\.8"),
    "a float threshold": ("layer/1/neuron/threshold", np.ones(3), "'threshold' holds float64"),
    "a threshold for other channels": ("layer/1/neuron/threshold", np.ones(2, np.int32), "expected one number or 3"),
    "a decay beyond one": ("layer/1/neuron/reset/decay", np.int32(4097), "'decay'"),
    "a gain beyond one": ("layer/1/neuron/estimate/gains", np.array([5000], np.int32), "'gains'"),
    "two gains for one decay": ("layer/1/neuron/estimate/gains", np.array([1, 1], np.int32), "'gains' has shape"),
    "columns beyond one": ("layer/1/neuron/integrate/columns", np.full((T, T), -4097, np.int32), "'columns'"),
    "columns of one axis": ("layer/1/neuron/integrate/columns", np.ones(T, np.int32), "of an operator do not fit"),
    "a bias of other steps": ("layer/1/neuron/integrate/bias", np.ones((T - 1, 3), np.int32), "do not fit"),
    "an unknown operator": ("layer/1/neuron/integrate/kind", np.array([b"FFT"], "S10"), "operator of kind 'FFT'"),
    "an unknown estimator": ("layer/1/neuron/estimator/kind", np.array([b"Dice"], "S10"), "estimator of kind 'Dice'"),
    "a negative shift": ("layer/1/neuron/estimator/shift", np.full(3, -1, np.int32), "'shift'"),
    "a shift beyond 30": ("layer/1/neuron/reset/shift", np.full(3, 31, np.int32), "'shift'"),
    "a steep sigmoid": ("layer/1/neuron/estimator/coefficient", np.full(3, 8193, np.int32), "'coefficient'"),
    "a reset that looks at now": (RESET + "columns", np.ones((T, T), np.int32), "not strictly causal"),
    "a reset of traces": (RESET + "kind", np.array([b"Traces"], "S10"), "missing|not strictly"),
    "levels without values": ("layer/3/neuron/estimator/values", np.ones(3, np.int32), "'values' has shape"),
    "levels of other channels": ("layer/3/neuron/estimator/thresholds", np.ones((5, 4), np.int32), "a staircase for 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number(changed, name):
    place, value, message = WRONG[name]
    refused(changed(place, value), message)


MISSING = (
    *("layer/0", "layer/2", "layer/4", "layer/1/type", "layer/1/weight", "layer/1/bias", "layer/1/shape"),
    *("layer/1/stride", "layer/1/groups", "layer/1/neuron", "layer/1/neuron/type", "layer/1/neuron/up"),
    *("layer/1/neuron/fraction", "layer/1/neuron/threshold", "layer/1/neuron/integrate", "layer/1/neuron/estimator"),
    *("layer/1/neuron/integrate/kind", "layer/1/neuron/reset/decay", "layer/1/neuron/estimate/bias"),
    *("psu_deploy/metadata", "layer", "psu_deploy"),
)


@pytest.mark.parametrize("name", MISSING)
def test_something_is_missing(changed, name):
    refused(changed(remove=[name]))


def test_a_neuron_without_a_reset_is_another_neuron(changed):
    """Parts that may be missing."""
    path = changed(remove=["layer/1/neuron/reset", "layer/1/neuron/estimate"])
    assert read(path)[0].layers[0].neuron.reset is None


@pytest.mark.parametrize("name", ["5", "07", "x"])
def test_layers_that_do_not_follow(good, tmp_path, name):
    path = shutil.copy(good, tmp_path / "net.net")
    with h5py.File(path, "r+") as file:
        file.move("layer/4", f"layer/{name}")
    refused(path)


def test_a_layer_too_many(good, tmp_path):
    path = shutil.copy(good, tmp_path / "net.net")
    with h5py.File(path, "r+") as file:
        file.copy("layer/4", "layer/5")
    refused(path)


METADATA = {
    "format": ["psu-deploy.lava/2", None],
    "machine_hash": [5, None],
    "input_shape": [[], [0], ["2"], 3, None, [2, 4, 5]],
    "output_shape": [[], [-1], None, [5]],
    "readout": ["max", 0, None],
    "horizon": [0, -1, 6.0, True, "6"],
    "static_input": [0, None],
    "code": [{}, None, {"unit": 0.0, "low": 0, "high": 1}, {"unit": 1.0, "low": 1, "high": 1}, {"unit": 1.0, "low": 0}],
    "units": [[], [0.0], [-1.0], [1.0, 1.0], [None], "1"],
    "layers": [[], ["a"], ["a", "b", "c", "d"], [1, 2, 3], None],
    "neurons": [[], {"l1": [3, 3, 4]}, {"nobody": [3]}, {"l1": [0]}, {"l1": "x"}, None],
    "versions": [[], {"a": 1}, None],
    "report": [[], {}, None, {"layers": [{}]}],
}


@pytest.mark.rows(20)
@pytest.mark.full
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in METADATA.items() for value in values])
def test_metadata_that_make_no_sense(good, changed, key, value):
    said = read(good)[1].facts
    refused(changed("psu_deploy/metadata", json.dumps(said | {key: value})))


@pytest.mark.full
@pytest.mark.parametrize("key", METADATA)
def test_metadata_that_are_missing(good, changed, key):
    said = {name: value for name, value in read(good)[1].facts.items() if name != key}
    refused(changed("psu_deploy/metadata", json.dumps(said)))


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "[" * 100_000, "NaN"])
def test_metadata_that_are_no_dictionary(changed, text):
    refused(changed("psu_deploy/metadata", text))


@pytest.mark.full
def test_a_file_of_an_earlier_release(good, changed):
    """It held the numbers before rounding too, which nobody reads any more."""
    network, _ = read(good)
    path = changed("psu_deploy/real/0/weight", np.full(W1, np.nan, np.float32))
    same(read(path)[0], network)
    assert psu.verify(machine(), psu.load(path, simulator="integer"), np.zeros((T, 1, 2, 4, 4), np.float32)).ok


def test_a_file_of_lava_dl(changed):
    refused(changed(remove=["psu_deploy"]), r"not one that psu-deploy wrote: .*; load it with lava-dl")


def test_missing_and_folders(tmp_path):
    (tmp_path / "folder.net").mkdir()
    refused(tmp_path / "nowhere.net", "does not exist or is not a file")
    refused(tmp_path / "folder.net", "does not exist or is not a file")


@pytest.mark.full
@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_not_hdf5(tmp_path, content):
    (tmp_path / "net.net").write_bytes(content)
    refused(tmp_path / "net.net", "truncated, damaged or not an HDF5 file")


def test_files_of_other_targets(tmp_path):
    small = oracle.machine((3,), ops.Linear(np.ones((2, 3))), zoo.NEURONS["psu"])
    for target, suffix in (("onnx", ".onnx"), ("nir", ".nir")):
        options = (
            {} if target == "onnx" else {"allow_approximation": True, "calibration": np.ones((3, 1, 3), np.float32)}
        )
        try:
            path = psu.export(small, tmp_path / f"net{suffix}", target=target, **options).path
        except psu.UnsupportedModelError:
            continue
        refused(shutil.copy(path, tmp_path / "net.net"))


@pytest.mark.full
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(good, tmp_path, share):
    content = good.read_bytes()
    (tmp_path / "net.net").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "net.net")


@pytest.mark.full
@pytest.mark.parametrize("flips", [100, pytest.param(400, marks=pytest.mark.nightly)])
def test_flipped_bytes(good, flips, tmp_path):
    """Every file is read, or refused in a sentence. Where HDF5 itself would go astray, another process goes first."""
    content, path = good.read_bytes(), tmp_path / "net.net"
    random, ended = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(flips):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            read(path)
        except psu.ArtifactError as error:
            ended[False] += 1
            assert str(path) in str(error)  # noqa: PT017
        else:
            ended[True] += 1
    assert min(ended.values()) > 5
