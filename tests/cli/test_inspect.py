"""inspect: inputs, outputs, layers and promises of every file there is, in tables and as JSON."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from tests import zoo
from tests.cli.conftest import small_machine
from tests.exporters.nir.machines import LEAK, STRICT, chain, linear, neuron

NETWORK = chain((3,), linear(4, 3), neuron(LEAK, None, STRICT), linear(2, 4), ops.Readout("mean"))
"""Layers a, b (neurons), c, d."""

EVIL = "one\ntwo \x1b[31m"


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every file first, in case it is damaged. Ours are not."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)


def export(suffix, machine=NETWORK):
    x = np.random.default_rng(0).integers(0, 2, (6, 2, *machine.input_shape)).astype(np.float32)
    target, options = {".onnx": ("onnx", {}), ".nir": ("nir", {}), ".net": ("lava", {"calibration": x})}[suffix]
    return psu.export(machine, f"net{suffix}", target=target, **options).path


def described(cli, file):
    result = cli("inspect", file, "--json")
    assert result.code == 0, result
    assert not result.err
    return json.loads(result.out)


def layers(found):
    return {layer["name"]: (layer["kind"], layer["shape"]) for layer in found["layers"]}


LAYERS = {
    ".onnx": {
        "a": ("Gemm", [4]),
        "b": (f"neuron, fires at {NETWORK.nodes[1].layer.fire_on} {NETWORK.nodes[1].layer.threshold:g}", [4]),
        "c": ("Gemm", [2]),
        "d": ("Add, Div", [2]),
    },
    ".net": {"b": ("Dense, PSU", [4]), "c": ("Dense, Relay", [2])},
}


@pytest.mark.parametrize("suffix", [".onnx", ".nir", ".net"])
class TestArtifacts:
    def test_ends_and_promises(self, cli, suffix):
        found = described(cli, export(suffix))
        assert [tensor["shape"] for tensor in found["inputs"] + found["outputs"]] == [[3], [2]]
        assert found["machine"] == NETWORK.content_hash
        assert found["target"] == {".onnx": "onnx", ".nir": "nir", ".net": "lava"}[suffix]
        assert (found["steps"], found["static_input"]) == (None, False)
        assert found["versions"]["psu-deploy"] == psu.__version__

    def test_layers(self, cli, suffix):
        found = layers(described(cli, export(suffix)))
        if suffix != ".nir":
            assert found == LAYERS[suffix]
            return
        nodes = psu.load("net.nir")._graph.nodes
        inner = {name: type(node).__name__ for name, node in nodes.items() if name not in ("input", "output")}
        assert {name: kind for name, (kind, _) in found.items()} == inner
        assert (found["a"][1], found["b__spikes"][1], found["c"][1]) == ([4], [4], [2])

    def test_the_tables_say_the_same(self, cli, suffix):
        found, result = described(cli, export(suffix)), cli("inspect", f"net{suffix}")
        assert result.code == 0
        said = [found["machine"], found["fidelity"], *found["approximations"]]
        rows = [row for what in ("inputs", "outputs", "layers", "state") for row in found[what]]
        cells = {"".join(str(tuple(v) if isinstance(v, list) else v) for v in row.values()) for row in rows}
        printed = {line.replace("│", "").replace(" ", "") for line in result.out.splitlines()}
        assert all(text in result.out for text in said)
        assert {cell.replace(" ", "") for cell in cells} <= printed


def test_what_rounding_did(cli):
    found = described(cli, export(".net"))
    assert found["report"] == json.loads(json.dumps(psu.load("net.net", simulator="integer").report.to_dict()))


@pytest.mark.parametrize("name", ["residual", "look-ahead", "static", "output is a state", "shared neuron"])
def test_layers_of_a_graph(cli, name):
    """Every layer of the machine that has a memory, or is a neuron, is one line; shapes are the machine's."""
    machine = zoo.NETWORKS[name]
    found = layers(described(cli, export(".onnx", machine)))
    kept = {tensor.rpartition(".")[0] for tensor in machine.state_spec} - {""}
    assert kept | set(machine.spiking) <= found.keys()
    for layer, (_, shape) in found.items():
        known = layer in machine.spiking or shape is not None  # a value that goes by another name tells no shape
        assert not known or layer not in machine.shapes or shape == list(machine.shapes[layer]), layer
    assert [tensor["name"] for tensor in described(cli, "net.onnx")["state"]] == list(machine.state_spec)


def test_a_graph_that_keeps_the_shapes_to_itself(cli):
    model = onnx.load(export(".onnx"))
    del model.graph.value_info[:]
    onnx.save(model, "net.onnx")
    found = described(cli, "net.onnx")
    assert found["outputs"] == [{"name": "y", "shape": [2], "dtype": "float32"}]
    assert all(shape in (None, [4], [2]) for _, shape in layers(found).values())


def test_a_machine(cli, saved):
    machine, found = small_machine(), described(cli, saved)
    assert (found["machine"], found["horizon"], found["latency"]) == (machine.content_hash, 6, 0)
    assert [layer["name"] for layer in found["layers"]] == [node.name for node in machine.nodes]
    assert [layer["kind"] for layer in found["layers"]] == ["Linear", "SpikingNeuron", "Linear"]
    assert found["layers"][0]["parameters"] == 16 * 4 + 16
    state = sum(4 * value.size for name, value in machine.initial_state(1).items() if name != "step")
    assert sum(layer["state_bytes"] for layer in found["layers"]) == state


def test_a_run(cli, trained):
    found = described(cli, trained)
    assert found["recipe"]["neuron"] == "rpsu"
    assert found["machine"] == described(cli, trained / "model.psm")


@pytest.mark.parametrize("suffix", [".psm", ".onnx"])
def test_names_with_lines_in_them(cli, tmp_path, suffix):
    """One row stays one row, in the tables and in their titles."""
    nodes = (Node("a", linear(4, 3), ("x",)), Node(EVIL, neuron(LEAK, None, STRICT), ("a",)))
    machine = StateMachine(nodes, (3,))
    path = machine.save("net.psm") if suffix == ".psm" else export(suffix, machine)
    assert EVIL in [layer["name"] for layer in described(cli, path)["layers"]]
    path = path.rename(path.with_name(f"{EVIL}{suffix}"))
    result = cli("inspect", path)
    assert result.code == 0
    assert r"one\ntwo \x1b[31m" in result.out
    assert not [line for line in result.out.splitlines() if line.strip("│ ").startswith("two")]
    assert described(cli, path)["file"] == str(path)


def test_a_sequence(cli):
    """One that takes all steps in a call says so."""
    psu.export(NETWORK, "net.onnx", sequence=True)
    assert described(cli, "net.onnx")["sequence"]
    assert "a sequence, all steps in one call" in cli("inspect", "net.onnx").out
    assert not described(cli, export(".onnx"))["sequence"]
    assert "a sequence" not in cli("inspect", "net.onnx").out


def test_how_to_go_on_with_a_machine(cli, saved):
    assert f"next: psu-deploy export {saved} --to onnx --out out/" in cli("inspect", saved).err
