"""The words of our ONNX files: just those that are written are read, and every shape is known before anything runs."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper

import psu_deploy as psu
from psu_deploy.capture import to_state_machine
from psu_deploy.exporters.onnx.emit import emit
from psu_deploy.exporters.onnx.events import event_layers
from psu_deploy.exporters.onnx.lower import WRITTEN
from psu_deploy.exporters.onnx.size import check_size
from psu_deploy.exporters.onnx.vocabulary import check_vocabulary
from psu_deploy.exporters.onnx.wire import structure_bytes
from psu_deploy.machine import ops
from tests.helpers import EVERY_NEURON
from tests.zoo import MACHINES, NEURONS, chain

METADATA = {"versions": {"psu-deploy": "0"}}


def words(graph):
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from words(attribute.g)


@pytest.fixture(scope="module")
def models():
    machines = list(MACHINES.values())
    machines += [to_state_machine(case.make(6, tau=1.5, threshold=0.3)[0], (3,)) for case in EVERY_NEURON]
    return [emit(machine, METADATA, layers) for machine in machines for layers in event_choices(machine)]


def event_choices(machine):
    """No layers, and all that can be driven by events."""
    layers = event_layers(machine, True)
    return [{}, layers] if layers else [{}]


@pytest.mark.full
def test_every_word_is_used_and_no_other(models):
    assert {word for model in models for word in words(model.graph)} == {("", name) for name in WRITTEN}


@pytest.mark.full
def test_what_we_write_passes(models, tmp_path):
    for model in models:
        check_vocabulary(tmp_path, model)
        check_size(tmp_path, model, 0)


@pytest.mark.full
def test_structure_is_all_but_the_weights(models):
    for model in models:
        content = model.SerializeToString()
        raw = sum(len(weight.raw_data) for weight in model.graph.initializer)
        assert structure_bytes(content, 1 << 30) == len(content) - raw


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return psu.export(chain((3,), NEURONS["rpsu"]), tmp_path_factory.mktemp("good") / "net.onnx").path.read_bytes()


def changed(good, tmp_path, change):
    model = onnx.load_model_from_string(good)
    change(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refuses(good, tmp_path, change, *said):
    with pytest.raises(psu.ArtifactError) as caught:
        psu.load(changed(good, tmp_path, change))
    message = str(caught.value)
    assert str(tmp_path / "net.onnx") in message
    assert all(text in message for text in said), message


def behind(*nodes):
    """The output, sent through further nodes."""

    def change(model):
        last = next(node for node in model.graph.node if "y" in node.output)
        last.output[list(last.output).index("y")] = "before"
        for node in model.graph.node:
            node.input[:] = ["before" if name == "y" else name for name in node.input]
        model.graph.node.extend(nodes)

    return change


def constant(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def with_constant(name, values, *nodes):
    def change(model):
        behind(*nodes)(model)
        model.graph.initializer.append(constant(name, values))

    return change


def loop(times):
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["go"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [value("i", 7, []), value("keep", 9, []), value("v", 1, None)],
        [value("go", 9, []), value("w", 1, None)],
    )
    return with_constant("times", np.int64(times), helper.make_node("Loop", ["times", "", "before"], ["y"], body=body))


FOREIGN = {
    "a loop of years": (loop(2**62), "operator 'Loop'"),
    "an operator of a library": (
        behind(helper.make_node("Inverse", ["before"], ["y"], domain="com.microsoft")),
        "Inverse",
    ),
    "another operator": (behind(helper.make_node("Atan", ["before"], ["y"])), "operator 'Atan'"),
    "a tensor as attribute": (
        behind(helper.make_node("Identity", ["before"], ["y"], value=constant("c", np.float32([1])))),
        "with a tensor",
    ),
    "another opset": (lambda model: setattr(model.opset_import[0], "version", 19), "opsets [('', 19)]"),
    "two opsets": (lambda model: model.opset_import.add(domain="ai.onnx.ml", version=3), "ai.onnx.ml"),
    "another format": (lambda model: setattr(model, "ir_version", 9), "in format 9"),
    "functions": (lambda model: model.functions.add(name="f", domain="d"), "functions or training"),
    "training": (lambda model: model.training_info.add(), "functions or training"),
    "sparse weights": (lambda model: model.graph.sparse_initializer.add(), "sparse"),
    "NaN": (with_constant("c", np.float32([np.nan]), helper.make_node("Add", ["before", "c"], ["y"])), "'c' with NaN"),
    "halves": (
        with_constant("c", np.float16([1]), helper.make_node("Identity", ["before"], ["y"])),
        "'c' of another kind",
    ),
    "too few numbers": (
        lambda model: model.graph.initializer.add(name="c", data_type=1, dims=[2**40], raw_data=bytes(4)),
        "'c' of another kind or size",
    ),
    "a negative size": (
        lambda model: model.graph.initializer.add(name="c", data_type=1, dims=[-1, -1], raw_data=bytes(4)),
        "'c' of another kind or size",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_we_never_write(good, tmp_path, name):
    change, said = FOREIGN[name]
    refuses(good, tmp_path, change, "psu-deploy never writes", said)


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "/etc/passwd"])
def test_weights_in_another_file(good, tmp_path, monkeypatch, place):
    """Not beside it, not above it, not where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(4096))

    def change(model):
        weight = next(w for w in model.graph.initializer if w.data_type == 1)
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=place)

    refuses(good, tmp_path, change, "weights in another file")


GROWING = {
    "a row as long as a continent": with_constant(
        "pads",
        np.int64([0, 0, 0, 2**40]),
        helper.make_node("Pad", ["before", "pads"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["y"], keepdims=1),
    ),
    "one number everywhere": with_constant(
        "shape",
        np.int64([1, 2**20, 2**20, 3]),
        helper.make_node("Expand", ["before", "shape"], ["wide"]),
        helper.make_node("Flatten", ["wide"], ["flat"], axis=1),
        helper.make_node("ReduceSum", ["flat"], ["y"], keepdims=1),
    ),
    "a stride as long as a continent": with_constant(
        "kernel",
        np.ones((1, 1, 1), np.float32),
        helper.make_node("Unsqueeze", ["before", "axis_1"], ["row"]),
        helper.make_node("ConvTranspose", ["row", "kernel"], ["wide"], strides=[2**40]),
        helper.make_node("Flatten", ["wide"], ["flat"], axis=1),
        helper.make_node("ReduceSum", ["flat"], ["y"], keepdims=1),
    ),
    "doubled forty times": behind(
        helper.make_node("Concat", ["before", "before"], ["v0"], axis=1),
        *(helper.make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=1) for i in range(40)),
        helper.make_node("ReduceSum", ["v40"], ["y"], keepdims=1),
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_is_refused_before_it_does(good, tmp_path, name):
    def change(model):
        GROWING[name](model)
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_param="batch")
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
        for entry in model.metadata_props:
            if entry.key == "psu_deploy.output":
                entry.value = json.dumps({"name": "y", "shape": [1]})

    refuses(good, tmp_path, change, "one sample of this network", "raise PSU_DEPLOY_MAX_MEMORY")


def test_a_shape_that_only_running_tells(good, tmp_path):
    change = behind(
        helper.make_node("ReduceSum", ["before"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["count"], to=7),
        helper.make_node("Range", ["count", "count", "count"], ["range"]),
        helper.make_node("Identity", ["before"], ["y"]),
    )
    refuses(good, tmp_path, change, "known only while it runs")


def test_places_that_become_a_size(good, tmp_path):
    """Where something is not zero is no size that is known before."""
    change = behind(
        helper.make_node("NonZero", ["before"], ["places"]),
        helper.make_node("ReduceMax", ["places"], ["last"], keepdims=0),
        helper.make_node("Range", ["last", "last", "last"], ["range"]),
        helper.make_node("Identity", ["before"], ["y"]),
    )
    refuses(good, tmp_path, change, "known only while it runs")


def test_what_onnxruntime_says_while_it_runs(tmp_path):
    """Division of whole numbers by zero, an index beyond the end: only the engine finds that."""
    change = with_constant(
        "far",
        np.int64([5]),
        helper.make_node("Gather", ["before", "far"], ["picked"], axis=1),
        helper.make_node("Add", ["picked", "before"], ["y"]),
    )
    readout = chain((3,), NEURONS["rpsu"], ops.Linear(np.eye(3)))  # so that the spikes stay what they are
    good = psu.export(readout, tmp_path / "net.onnx").path.read_bytes()
    runner = psu.load(changed(good, tmp_path, change))
    for run in (runner.run, runner.trace):
        with pytest.raises(psu.EngineError, match=r"net\.onnx: onnxruntime .* failed while it ran the network"):
            run(np.zeros((1, 1, 3), np.float32))
