"""Weights in fewer bits: just the numbers that numpy rounds to, said in the file, and measured by verify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

import psu_deploy as psu
from psu_deploy.exporters.onnx import events
from psu_deploy.machine import Node, StateMachine, ops
from tests.cli.conftest import call
from tests.exporters.onnx.test_layers import CLOSE
from tests.helpers import joined, step_by_step
from tests.zoo import LAYERS, MACHINES, NETWORKS, NEURONS, chain, inputs, normal, random_state, steps_of

LAYERS_WITH_WEIGHTS = (ops.Linear, ops.Conv1d, ops.Conv2d, ops.Conv3d, ops.TimeConv)
ROUNDED = {
    name: machine
    for name, machine in MACHINES.items()
    if any(isinstance(node.layer, LAYERS_WITH_WEIGHTS) for node in machine.nodes)
}
NETWORK = chain((6,), ops.Linear(normal(32, 6), normal(32)), NEURONS["psu"], ops.Linear(normal(5, 32)), NEURONS["lif"])
KINDS = ("float16", "int8")


def by_hand(weight, kind):
    """As the docs have it, one output channel after the other, in float32."""
    if kind == "float16":
        return weight.astype(np.float32).astype(np.float16).astype(np.float64)
    rows = []
    for row in weight.astype(np.float32):
        scale = np.float32(np.abs(row).max()) / np.float32(127)
        rows.append(np.float32([0]) * row if scale == 0 else np.round(row / scale).astype(np.float32) * scale)
    return np.stack(rows).astype(np.float64)


def rounded_by_hand(machine, kind):
    nodes = tuple(
        Node(n.name, replace(n.layer, weight=by_hand(n.layer.weight, kind)), n.inputs)
        if isinstance(n.layer, LAYERS_WITH_WEIGHTS)
        else n
        for n in machine.nodes
    )
    return StateMachine(nodes, machine.input_shape)


@pytest.mark.rows(10)
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROUNDED)
def test_it_runs_the_rounded_network(name, kind, sequence, tmp_path, monkeypatch):
    """With all that can be driven by events: rows are gathered before they are made float32."""
    monkeypatch.setattr(events, "RATE", 0.5)
    machine = ROUNDED[name]
    artifact = psu.export(machine, tmp_path / "net.onnx", weights=kind, events=True, sequence=sequence)
    x, state = inputs(machine, steps_of(machine), 2), random_state(machine, 2)
    x = np.repeat(x[:1], len(x), axis=0) if machine.static_input else x
    expected, expected_state = step_by_step(rounded_by_hand(machine, kind), x, state)
    runner = psu.load(artifact, threads=1)
    runner.reset(2, state)
    np.testing.assert_allclose(joined(runner.run(x, reset=False)), joined(expected), **CLOSE)
    for key, value in expected_state.items():
        np.testing.assert_allclose(runner.state[key], value, **CLOSE, err_msg=key)


@pytest.mark.full
@pytest.mark.parametrize("engine", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL", "onnx.reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_engine_agrees(kind, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "RATE", 0.5)
    path = str(psu.export(NETWORK, tmp_path / "net.onnx", weights=kind, events=True).path)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, engine, options.graph_optimization_level)
    reference = engine == "onnx.reference"
    run = ReferenceEvaluator(path) if reference else ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    x, state = inputs(NETWORK, 1, 2), random_state(NETWORK, 2)
    expected, _ = step_by_step(rounded_by_hand(NETWORK, kind), x, state)
    np.testing.assert_allclose(run.run(None, {"x": x[0], **state})[0], expected[0], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [[0.0, 0.0], [1e-40, -1e-39], [1.0, 127.0], [-0.5, 0.25], [0.5, 126.5, 127.0]])
def test_single_rows(row, kind, tmp_path):
    """All zero, as good as zero, exact, and halves between two whole numbers, which go to the even one."""
    layer = ops.Linear(np.float64([row]))
    runner = psu.load(psu.export(chain((len(row),), layer), tmp_path / "net.onnx", weights=kind))
    found = runner.run(np.eye(len(row), dtype=np.float32)[None])[0, :, 0]
    expected = by_hand(layer.weight, kind)[0] if np.abs(row).max() > 1e-30 else np.zeros(len(row))
    np.testing.assert_array_equal(found, expected)


class TestTheFile:
    @pytest.mark.parametrize(("kind", "share"), [("float16", 0.5), ("int8", 0.25)])
    def test_it_is_small(self, kind, share, tmp_path):
        machine = chain((200,), ops.Linear(normal(300, 200)))
        sizes = [psu.export(machine, tmp_path / "n.onnx", weights=w).path.stat().st_size for w in ("float32", kind)]
        assert sizes[1] < share * sizes[0] + 3000

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_says_so(self, kind, tmp_path):
        artifact = psu.export(NETWORK, tmp_path / "net.onnx", weights=kind)
        runner = psu.load(artifact)
        assert (artifact.fidelity, runner.rounds, runner.facts["weights"]) == ("approximate", True, kind)
        assert artifact.machine_hash == NETWORK.content_hash
        off = {}
        for name in "ac":
            weight = next(node.layer.weight for node in NETWORK.nodes if node.name == name)
            off[name] = np.sqrt(np.mean((by_hand(weight, kind) - weight) ** 2) / np.mean(weight**2))
        assert runner.facts["rounding"] == pytest.approx(off, rel=1e-5)
        worst = max(off, key=off.get)
        (said,) = artifact.approximations
        assert said == f"weights of 2 layers are rounded to {kind}, by at most {off[worst]:.2%} (layer {worst!r})"

    def test_float32_is_written_as_ever(self, tmp_path):
        files = [psu.export(NETWORK, tmp_path / "n.onnx", **o).path.read_bytes() for o in ({}, {"weights": "float32"})]
        assert files[0] == files[1]
        runner = psu.load(tmp_path / "n.onnx")
        assert (runner.rounds, runner.artifact.fidelity) == (False, "faithful")
        assert not {"weights", "rounding"} & runner.facts.keys()

    def test_other_numbers_than_it_says(self, tmp_path):
        """Halves in a file that speaks of float32."""
        path = psu.export(NETWORK, tmp_path / "net.onnx", weights="float16").path
        model = onnx.load(path)
        next(entry for entry in model.metadata_props if entry.key == "psu_deploy.weights").value = '"float32"'
        path.write_bytes(model.SerializeToString())
        with pytest.raises(psu.ArtifactError, match=r"'a\.weight' of another kind or size"):
            psu.load(path)


@pytest.mark.full
class TestVerify:
    X = inputs(NETWORK, 40, 8)

    @pytest.mark.parametrize("sequence", [False, True])
    def test_it_is_measured(self, sequence, tmp_path):
        """What rounding changes is counted by raw arithmetic: the flips between two machines."""
        artifact = psu.export(NETWORK, tmp_path / "net.onnx", weights="int8", sequence=sequence)
        report = psu.verify(NETWORK, artifact, self.X)
        traces = [machine.trace(self.X) for machine in (NETWORK, rounded_by_hand(NETWORK, "int8"))]
        flips = sum(int((traces[0].spikes[n] != traces[1].spikes[n]).sum()) for n in NETWORK.spiking)
        assert flips > 0
        assert report.status == "MEASURED"
        assert report.verdict.startswith(f"MEASURED: rounded weights changed {flips} of 11,840 spikes")
        assert "EQUIVALENT" not in report.verdict
        assert "the file runs those weights: 11,840 spikes compared, 0 flips" in report.verdict
        assert artifact.approximations[0] in report.notes
        assert [(c.first, c.second, c.rule) for c in report.comparisons] == [
            ("machine", "rounded machine", "rounded"),
            ("rounded machine", "onnx", "judged"),
        ]
        assert report.structure.differences == ()

    @pytest.mark.parametrize("name", ["a.weight", "a.scale"])
    def test_one_other_number_is_found(self, name, tmp_path):
        path = psu.export(NETWORK, tmp_path / "net.onnx", weights="int8").path
        model = onnx.load(path)
        constant = next(c for c in model.graph.initializer if c.name == name)
        values = onnx.numpy_helper.to_array(constant).copy()
        values.flat[0] = values.flat[0] - 1 if values.dtype == np.int8 else np.nextafter(values.flat[0], np.float32(9))
        constant.CopyFrom(onnx.numpy_helper.from_array(values, name))
        path.write_bytes(model.SerializeToString())
        report = psu.verify(NETWORK, path, self.X)
        assert report.status == "NOT EQUIVALENT"
        assert name in report.verdict

    def test_another_network_is_no_rounding(self, tmp_path):
        """The engine is held against the rounded numbers of the network that was asked about."""
        other = chain((6,), *(node.layer for node in rounded_by_hand(NETWORK, "int8").nodes))
        artifact = psu.export(other, tmp_path / "net.onnx", weights="float16")
        assert psu.verify(NETWORK, artifact, self.X).status == "NOT EQUIVALENT"

    def test_the_command(self, tmp_path):
        NETWORK.save(tmp_path / "net.psm")
        result = call("export", tmp_path / "net.psm", "--to", "onnx", "--out", tmp_path, "--weights", "int8")
        assert result.code == 0, result
        assert "approximate" in result.out
        np.save(tmp_path / "x.npy", self.X)
        result = call("verify", tmp_path / "net.psm", tmp_path / "model.onnx", "--data", tmp_path / "x.npy")
        assert "MEASURED: rounded weights changed" in result.out, result


class TestRefusals:
    @pytest.mark.parametrize("weights", ["int4", "", None, 8, ["int8"]])
    def test_what_there_is_not(self, weights, tmp_path):
        with pytest.raises(psu.InputError, match="weights must be one of float32, float16, int8"):
            psu.export(NETWORK, tmp_path / "net.onnx", weights=weights)
        assert not list(tmp_path.iterdir())

    def test_too_large_for_it(self, tmp_path):
        machine = chain((2,), ops.Linear(np.float64([[1.0, -7e4]])))
        with pytest.raises(psu.InputError, match=r"layer 'a': its weights reach 7e\+04, float16 ends at 65504"):
            psu.export(machine, tmp_path / "net.onnx", weights="float16")
        psu.export(machine, tmp_path / "net.onnx", weights="int8")


def test_only_weights_are_rounded(tmp_path):
    """A transposed convolution keeps its numbers, and so does a network of none: then nothing is rounded at all."""
    name = next(name for name in LAYERS if name.startswith("transposed"))
    for machine in (MACHINES[name], NETWORKS["filters in a row"]):
        runner = psu.load(psu.export(machine, tmp_path / "net.onnx", weights="int8"))
        x = inputs(machine, steps_of(machine), 2)
        np.testing.assert_allclose(runner.run(x), machine.run(x), **CLOSE)
        assert (runner.artifact.fidelity, runner.artifact.approximations, runner.rounds) == ("faithful", (), False)
