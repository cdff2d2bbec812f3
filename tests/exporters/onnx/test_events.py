"""Layers that read the weights of what fired only: the same sums at every batch, and every other file as it was."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import psu_deploy as psu
from psu_deploy.exporters.onnx import events
from psu_deploy.exporters.onnx.events import event_layers
from psu_deploy.fuzz.grow import random_machine
from psu_deploy.machine import Node, StateMachine, ops
from tests.cli.conftest import call
from tests.exporters.onnx.test_layers import CLOSE
from tests.helpers import joined, step_by_step
from tests.zoo import MACHINES, NEURONS, chain, inputs, normal, random_state, steps_of

SPIKING = chain(
    (6,),
    ops.Linear(normal(16, 6), normal(16)),
    NEURONS["psu"],
    ops.Linear(normal(9, 16)),
    NEURONS["rpsu"],
    ops.Delay(2),
    ops.Linear(normal(4, 9, seed=2), normal(4)),
)
"""On the input; on spikes, without bias; on what a buffer holds, which a state that is given may fill with anything."""

LATE = StateMachine(
    (
        Node("late", ops.TimeConv(normal(8, 3, 2), normal(8), 1, lookahead=1), ("x",)),
        Node("spikes", NEURONS["lif"], ("late",)),
        Node("moved", ops.Take(0, (5, 0, 2, 7)), ("spikes",)),
        Node("y", ops.Linear(normal(3, 4), normal(3)), ("moved",)),
        Node("more", NEURONS["bernoulli"], ("y",)),
    ),
    (3,),
)

EVENT_DRIVEN = {"spiking": SPIKING, "late": LATE} | {
    name: machine for name, machine in MACHINES.items() if event_layers(machine, True)
}
"""Name -> machine in which a layer can be driven by events."""

RATES = {"never": 0.0, "half": 0.5, "always": 1000.0}
"""Up to which rows are gathered."""


def file_of(machine, path, rate, monkeypatch):
    monkeypatch.setattr(events, "RATE", rate)
    return psu.export(machine, path, events=True)


@pytest.mark.rows(12)
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", EVENT_DRIVEN)
def test_the_same_numbers_and_state(name, rate, batch, tmp_path, monkeypatch):
    """From a random state, so that a buffer holds numbers of both signs where spikes should be."""
    machine = EVENT_DRIVEN[name]
    runner = psu.load(file_of(machine, tmp_path / "net.onnx", RATES[rate], monkeypatch), threads=1)
    x, state = inputs(machine, steps_of(machine), batch), random_state(machine, batch)
    expected, expected_state = step_by_step(machine, x, state)
    runner.reset(batch, state)
    got = np.concatenate([joined(runner.step(x_t), axis=1)[None] for x_t in x])
    np.testing.assert_allclose(got, joined(expected), **CLOSE)
    for key, value in expected_state.items():
        np.testing.assert_allclose(runner.state[key], value, **CLOSE, err_msg=key)


@pytest.mark.full
@pytest.mark.rows(4)
@pytest.mark.parametrize("seed", range(60))
def test_random_networks_are_proven(seed, tmp_path, monkeypatch):
    machine = random_machine(seed)
    artifact = file_of(machine, tmp_path / "net.onnx", (0.5, 1000.0)[seed % 2], monkeypatch)
    x = inputs(machine, min(machine.max_steps or 6, 6), 2)
    x = np.repeat(x[:1], len(x), axis=0) if machine.static_input else x
    report = psu.verify(machine, artifact, x, allow_silent=True)
    assert report.ok, report


def weights(outputs, count=12):
    """One layer on the input; W[i, j] = 1000 i + j + 1, so that every subset of a row has a sum of its own."""
    return ops.Linear(1000.0 * np.arange(outputs)[:, None] + 2.0 ** np.arange(count))


def fired(*places, count=12):
    x = np.zeros(count, np.float32)
    x[list(places)] = 1
    return x


@pytest.mark.parametrize("values", [(1.0, 1.0), (1.0, -1.0), (-2.5, 0.5), (1e-30, 1e30), (1e-42, 3.0)])
def test_a_row_counts_as_often_as_its_input_says(values, tmp_path, monkeypatch):
    """In a batch two samples need the same row, and what they are multiplied with may cancel."""
    machine = chain((12,), weights(3))
    runner = psu.load(file_of(machine, tmp_path / "net.onnx", 1000.0, monkeypatch))
    x = np.stack([values[0] * fired(3, 7), values[1] * fired(3)])
    np.testing.assert_allclose(runner.run(x[None])[0], x.astype(float) @ machine.nodes[0].layer.weight.T, rtol=1e-6)


def which_way(path):
    """A session of the file in which the product with all weights is taken twice."""
    model = onnx.load(path)
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    branches = {attribute.name: attribute.g for attribute in choice.attribute}
    (product,) = branches["else_branch"].node
    product.attribute.append(onnx.helper.make_attribute("alpha", 2.0))
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("rows", "gathers"),
    [
        ([()], True),
        ([(0, 4, 11)], True),
        ([(0, 3, 4, 11)], False),
        ([(0,), (4, 11)], True),
        ([(0, 4), (4, 11)], False),
        ([range(12)], False),
    ],
)
def test_rows_are_gathered_for_few_spikes_alone(rows, gathers, tmp_path, monkeypatch):
    """Three of twelve, in all samples together; the input's sign and size do not count."""
    session = which_way(file_of(chain((12,), weights(3)), tmp_path / "net.onnx", 0.25, monkeypatch).path)
    x = np.stack([-7 * fired(*places) for places in rows])
    (y,) = session.run(["y"], {"x": x})
    np.testing.assert_allclose(y, (1 if gathers else 2) * x @ weights(3).weight.T.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_what_it_spoils_anyway(value, tmp_path, monkeypatch):
    """The runner refuses it; whoever drives the graph by hand gets what the product gives."""
    x, found = np.zeros((1, 12), np.float32), []
    x[0, 5] = value
    for rate in (0.0, 1000.0):
        path = file_of(chain((12,), weights(3)), tmp_path / "net.onnx", rate, monkeypatch).path
        found.append(ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0])
    assert not np.isfinite(found[1]).any()
    np.testing.assert_array_equal(np.isnan(found[1]) | (found[1] == value), True)
    with pytest.raises(psu.InputError):
        psu.load(tmp_path / "net.onnx").run(x[None])


def linear(outputs, size):
    return ops.Linear(np.zeros((outputs, size)))


class TestTheChoice:
    def test_large_layers_on_spikes_or_the_input(self):
        sizes = (700, 1024, 1024, 20)
        layers = [linear(b, a) for a, b in pairwise(sizes)]
        machine = chain((700,), layers[0], NEURONS["psu"], layers[1], NEURONS["psu"], layers[2])
        assert event_layers(machine, "auto") == {"a": 87, "c": 128}
        assert event_layers(machine, True) == event_layers(machine, "on") == {"a": 87, "c": 128, "e": 128}
        assert event_layers(machine, False) == event_layers(machine, "off") == {}

    @pytest.mark.parametrize(("outputs", "size", "pays"), [(512, 1280, 1), (512, 1279, 0), (511, 2000, 0), (9, 9, 0)])
    def test_by_size(self, outputs, size, pays):
        assert len(event_layers(chain((size,), linear(outputs, size)), "auto")) == pays

    def test_not_what_is_never_silent(self):
        """Behind a sum of real numbers, along one axis of several, computed once."""
        behind = chain((3,), linear(3, 3), linear(3, 3), NEURONS["psu"], ops.Affine(normal(3), normal(3)), linear(3, 3))
        assert list(event_layers(behind, True)) == ["a"]
        assert event_layers(chain((2, 3), linear(3, 3)), True) == {}
        held = (Node("w", linear(4, 5), ("x",)), Node("h", ops.Hold(), ("w",)), Node("n", NEURONS["psu"], ("h",)))
        assert event_layers(StateMachine(held, (5,)), True) == {}

    @pytest.mark.parametrize("events", ["yes", "", None, 1.5, ["auto"]])
    def test_what_it_may_be(self, events, tmp_path):
        with pytest.raises(psu.InputError, match='events must be "auto", True'):
            psu.export(SPIKING, tmp_path / "net.onnx", events=events)
        assert not list(tmp_path.iterdir())


class TestTheFile:
    def test_small_networks_are_written_as_ever(self, tmp_path):
        """Byte for byte; nothing in it speaks of events."""
        written = [
            psu.export(SPIKING, tmp_path / "net.onnx", **options).path.read_bytes()
            for options in ({}, {"events": "auto"}, {"events": False}, {"events": "off"})
        ]
        assert len({*written}) == 1
        assert b"events" not in written[0]
        assert "events" not in psu.load(tmp_path / "net.onnx").facts

    def test_a_weight_is_stored_once(self, tmp_path):
        machine = chain((300,), ops.Linear(normal(200, 300)))
        sizes = [psu.export(machine, tmp_path / "net.onnx", events=e).path.stat().st_size for e in (False, True)]
        assert sizes[1] < sizes[0] + 3000

    def test_it_says_which_layers(self, tmp_path, monkeypatch):
        artifact = file_of(SPIKING, tmp_path / "net.onnx", 0.5, monkeypatch)
        runner = psu.load(artifact)
        assert runner.facts["events"] == {"a": 3, "c": 8, "f": 4}
        assert (artifact.fidelity, artifact.machine_hash) == ("faithful", SPIKING.content_hash)
        lines = {line.name: line for line in runner.contents.layers}
        assert list(lines) == [*"abcdef"]
        assert lines["c"].kind == "Gemm, the rows of up to 8 spikes alone"
        assert [lines[name].shape for name in "acf"] == [(16,), (9,), (4,)]

    def test_it_is_held_against_an_export_like_it(self, tmp_path, monkeypatch):
        path = file_of(SPIKING, tmp_path / "net.onnx", 0.5, monkeypatch).path
        assert psu.load(path).structure(SPIKING).differences == ()
        model = onnx.load(path)
        entry = next(entry for entry in model.metadata_props if entry.key == "psu_deploy.events")
        for said, found in (({"a": 3, "c": 7, "f": 4}, "c.most"), ({"a": 3, "c": 8}, "node 'y'"), ({}, "node 'a")):
            entry.value = json.dumps(said)
            path.write_bytes(model.SerializeToString())
            first, *_ = psu.load(path).structure(SPIKING).differences
            assert found in first

    def test_one_wrong_weight_is_found(self, tmp_path, monkeypatch):
        path = file_of(SPIKING, tmp_path / "net.onnx", 0.5, monkeypatch).path
        model = onnx.load(path)
        weight = next(w for w in model.graph.initializer if w.name == "c.weight")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[-1, -1] = np.nextafter(values[-1, -1], np.float32(9))
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        path.write_bytes(model.SerializeToString())
        (difference,) = psu.load(path).structure(SPIKING).differences
        assert "constant 'c.weight'" in difference

    def test_what_is_no_choice_is_refused(self, tmp_path, monkeypatch):
        path = file_of(SPIKING, tmp_path / "net.onnx", 0.5, monkeypatch).path
        model = onnx.load(path)
        entry = next(entry for entry in model.metadata_props if entry.key == "psu_deploy.events")
        for said in ({"a": -1}, {"a": 2**24 + 1}, {"a": 10**400}, {"a": "all"}, ["a"]):
            entry.value = json.dumps(said)
            path.write_bytes(model.SerializeToString())
            with pytest.raises(psu.ArtifactError, match="malformed"):
                psu.load(path)


class TestTheCommand:
    def test_it_is_asked_for(self, tmp_path):
        SPIKING.save(tmp_path / "net.psm")
        result = call("export", tmp_path / "net.psm", "--to", "onnx", "--out", tmp_path, "--events", "on")
        assert result.code == 0, result
        assert set(psu.load(tmp_path / "model.onnx").facts["events"]) == {*"acf"}

    def test_it_is_an_option_of_onnx(self, tmp_path):
        SPIKING.save(tmp_path / "net.psm")
        result = call("export", tmp_path / "net.psm", "--to", "nir", "--out", tmp_path, "--events", "on")
        assert result.code != 0
        assert "--events is an option of --to onnx" in result.err
