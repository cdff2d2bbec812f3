"""A file that is missing, damaged or not ours is an ArtifactError that names it, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import psu_deploy as psu
from tests.amount import NIGHTLY
from tests.zoo import NEURONS, chain

ABSENT = object()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Content of a good file."""
    return psu.export(chain((3,), NEURONS["rpsu"]), tmp_path_factory.mktemp("good") / "net.onnx").path.read_bytes()


@pytest.fixture
def refused(tmp_path):
    """Assert that no runner opens a file of this content."""

    def check(content, message=None):
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        with pytest.raises(psu.ArtifactError, match=message) as error:
            psu.load(path)
        assert str(path) in str(error.value)

    return check


def with_metadata(content, **changes):
    """The file with other metadata; ABSENT removes a key, a string is taken as it is."""
    model = onnx.load_model_from_string(content)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries |= {f"psu_deploy.{key}": value for key, value in changes.items() if value is not ABSENT}
    del model.metadata_props[:]
    for key, value in entries.items():
        if changes.get(key.removeprefix("psu_deploy.")) is not ABSENT:
            model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return model.SerializeToString()


def test_the_good_file_loads(good, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(with_metadata(good))
    psu.load(path).run(np.zeros((1, 1, 3), np.float32))


def test_missing(tmp_path):
    with pytest.raises(psu.ArtifactError, match=r"cannot read .*nowhere\.onnx: No such file or directory"):
        psu.load(tmp_path / "nowhere.onnx")


def test_a_folder(tmp_path):
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(psu.ArtifactError, match=r"cannot read .*net\.onnx: Is a directory"):
        psu.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["net.pt", "net", "net.ONNX"])
def test_a_suffix_no_target_writes(tmp_path, name):
    with pytest.raises(psu.ArtifactError, match=r"no target writes .*; known suffixes: \.onnx"):
        psu.load(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"{}", b"\x80\x04K\x01.", bytes(100), b"\xff" * 100])
def test_not_onnx(refused, content):
    refused(content)


def foreign():
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", value[:1], value[1:])
    return onnx.helper.make_model(graph).SerializeToString()


def test_somebody_elses_onnx(refused):
    refused(foreign(), "was not written by psu-deploy")


def test_metadata_of_ours_on_somebody_elses_graph(good, tmp_path):
    """Every name the metadata speaks of must be in the graph."""
    model = onnx.load_model_from_string(foreign())
    model.metadata_props.extend(onnx.load_model_from_string(good).metadata_props)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(psu.ArtifactError):
        psu.load(path).run(np.zeros((1, 1, 3), np.float32))


def test_truncated_inside_the_graph(good, refused):
    for length in range(1, len(good) // 2, 17):
        refused(good[:length])


@pytest.mark.full
def test_truncated_anywhere(good, refused):
    """Between two entries of the metadata a file can end and still be a protobuf."""
    for length in range(0, len(good), 1 if NIGHTLY else 3):
        refused(good[:length])


@pytest.mark.parametrize("name", [b"a.V.next", b"a.V.decay"])
def test_a_name_that_is_not_text(good, refused, name):
    assert name in good
    refused(good.replace(name, b"\xff" * len(name), 1))


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000])
@pytest.mark.parametrize("key", ["format", "states"])
def test_metadata_that_is_not_json(good, refused, key, text):
    refused(with_metadata(good, **{key: text}))


def test_a_key_that_is_not_text(good, refused):
    refused(good.replace(b"psu_deploy.horizon", b"psu_deploy.hor\xffzon"), "a key of its metadata is no text")


@pytest.mark.parametrize("version", ["psu-deploy.onnx.2", None, 1, [], ABSENT])
def test_a_format_of_another_release(good, refused, version):
    refused(
        with_metadata(good, format=json.dumps(version) if isinstance(version, str) else version),
        "has format .*; this release reads",
    )


KEYS = (
    "approximations",
    "fidelity",
    "horizon",
    "input",
    "latency",
    "static_input",
    "machine_hash",
    "neurons",
    "output",
    "states",
    "versions",
)


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key(good, refused, key):
    refused(with_metadata(good, **{key: ABSENT}))


STATE = {
    "name": "a.V",
    "input": "a.V",
    "output": "a.V.next",
    "shape": [3],
    "dtype": "float32",
    "batched": True,
    "initial": 0,
}
MALFORMED = {
    "approximations": ["null", 5, '"none"', [1]],
    "fidelity": [5, '"perfect"', "null"],
    "horizon": ['"6"', [6], -1, 0, 6.5, True],
    "latency": ["null", '"0"', -1],
    "machine_hash": [5, "null", []],
    "versions": [[], "null", '"1.0"'],
    "input": [
        [],
        "null",
        {},
        {"name": "x"},
        {"name": "x", "shape": 3},
        {"name": "x", "shape": ["3"]},
        {"name": "z", "shape": [3]},
    ],
    "output": [[], "null", {}, {"name": "y"}, {"name": "y", "shape": [4]}],
    "states": [
        *({}, "null", '"a"', [1], [{}], []),
        *([STATE | {"name": 5}], [STATE | {"shape": "3"}], [STATE | {"shape": [4]}], [STATE | {"dtype": "float99"}]),
        *([STATE | {"output": "nowhere"}], [STATE | {"input": "nowhere"}], [STATE | {"batched": None}]),
    ],
    "neurons": [
        [],
        "null",
        {"a": 5},
        {"a": {}},
        {"a": {"spikes": "nowhere", "potential": "a.V.next", "reset": None, "threshold": 1}},
    ],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in MALFORMED.items() for value in values])
def test_a_value_of_the_wrong_kind(good, refused, key, value):
    refused(with_metadata(good, **{key: value}))
