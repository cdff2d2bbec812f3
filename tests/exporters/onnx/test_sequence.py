"""A whole sequence in one call: the numbers of the steps one by one, in one part or in several, in every engine."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import psu_deploy as psu
from psu_deploy.exporters.onnx.runner import OnnxRunner
from psu_deploy.exporters.onnx.sequence_runner import SequenceRunner
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.cli.conftest import call
from tests.exporters.onnx.test_layers import CLOSE
from tests.helpers import joined, step_by_step
from tests.zoo import MACHINES, NETWORKS, NEURONS, chain, inputs, neuron, normal, random_state, steps_of

NETWORK = chain((5,), ops.Linear(normal(4, 5)), NEURONS["rpsu"], ops.Linear(normal(3, 4)), NEURONS["lif"])


def export(machine, path, **options):
    return psu.export(machine, path, sequence=True, **options).path


def values_of(machine, T, B):
    x = inputs(machine, T, B)
    return np.repeat(x[:1], T, axis=0) if machine.static_input else x


@pytest.mark.rows(14)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MACHINES)
def test_outputs_and_state_are_the_machines(name, batch, tmp_path):
    """From a random state, at once and in two parts."""
    machine = MACHINES[name]
    runner = psu.load(export(machine, tmp_path / "net.onnx", events=True), threads=1)
    x, state = values_of(machine, steps_of(machine), batch), random_state(machine, batch)
    expected, expected_state = step_by_step(machine, x, state)
    for cut in (len(x), 1):
        runner.reset(batch, state)
        parts = [runner.run(part, reset=False) for part in (x[:cut], x[cut:]) if len(part)]
        np.testing.assert_allclose(np.concatenate([joined(y) for y in parts]), joined(expected), **CLOSE)
        assert runner.state.keys() == expected_state.keys()
        for key, value in expected_state.items():
            np.testing.assert_allclose(runner.state[key], value, **CLOSE, err_msg=key)


@pytest.mark.rows(8)
@pytest.mark.parametrize("name", MACHINES)
def test_every_decision_is_proven(name, tmp_path):
    """The trace comes from the very graph; what the file holds is what an export holds."""
    machine = MACHINES[name]
    report = psu.verify(machine, export(machine, tmp_path / "net.onnx"), values_of(machine, steps_of(machine), 2))
    assert not report.structure.differences
    assert all(not comparison.failures and not comparison.unexplained for comparison in report.comparisons), report


def test_steps_one_by_one(tmp_path):
    machine = NETWORKS["several outputs"]
    runner = psu.load(export(machine, tmp_path / "net.onnx"))
    assert isinstance(runner, SequenceRunner)
    x = inputs(machine, 4, 2)
    whole = runner.run(x)
    runner.reset(2)
    rows = [runner.step(x_t) for x_t in x]
    for name, y in whole.items():
        np.testing.assert_array_equal(np.stack([row[name] for row in rows]), y)


@pytest.mark.full
@pytest.mark.rows(8)
@pytest.mark.parametrize("engine", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL", "onnx.reference"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if MACHINES[name].state_spec] + ["rpsu neuron"])
def test_every_engine_agrees(name, engine, tmp_path):
    machine, path = MACHINES[name], str(export(MACHINES[name], tmp_path / "net.onnx", events=True))
    if engine == "onnx.reference":
        run = ReferenceEvaluator(path)
    else:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, engine)
        run = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x, state = values_of(machine, steps_of(machine), 2), random_state(machine, 2)
    expected, expected_state = step_by_step(machine, x, state)
    results = run.run(None, {"x": x, **state})
    given, following = results[: len(machine.outputs)], results[len(machine.outputs) :]
    got = joined(dict(enumerate(given))) if len(given) > 1 else given[0]
    np.testing.assert_allclose(got, joined(expected), **CLOSE)
    for (key, value), found in zip(expected_state.items(), following, strict=True):
        np.testing.assert_allclose(found, value, **CLOSE, err_msg=key)


class TestTheFile:
    def test_time_comes_first(self, tmp_path):
        model = onnx.load(export(NETWORK, tmp_path / "net.onnx"))
        axes = {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        assert axes["x"] == ["time", "batch", 5]
        assert axes["y"] == ["time", "batch", 3]
        assert axes["b.V"] == axes["b.V.next"] == ["batch", 4]
        assert axes["step"] == axes["step.next"] == []
        onnx.checker.check_model(model, full_check=True)

    def test_it_speaks_of_the_step(self, tmp_path):
        """The metadata are those of the file of one step, and so are its parts."""
        step = psu.load(psu.export(NETWORK, tmp_path / "step.onnx"))
        runner = psu.load(export(NETWORK, tmp_path / "net.onnx"))
        assert runner.facts == step.facts | {"sequence": True}
        assert runner.contents == step.contents
        assert "sequence" not in step.facts

    def test_it_is_held_against_an_export(self, tmp_path):
        path = export(NETWORK, tmp_path / "net.onnx")
        assert psu.load(path).structure(NETWORK).differences == ()
        model = onnx.load(path)
        weight = next(w for w in model.graph.initializer if w.name == "c.weight")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0, 0] = np.nextafter(values[0, 0], np.float32(9))
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        path.write_bytes(model.SerializeToString())
        (difference,) = psu.load(path).structure(NETWORK).differences
        assert "constant 'c.weight'" in difference

    def test_each_kind_has_its_runner(self, tmp_path):
        with pytest.raises(psu.ArtifactError, match=r"another kind of graph; open it with psu_deploy\.load"):
            OnnxRunner(export(NETWORK, tmp_path / "net.onnx"))
        with pytest.raises(psu.ArtifactError, match="another kind of graph"):
            SequenceRunner(psu.export(NETWORK, tmp_path / "step.onnx").path)


class TestRefusals:
    @pytest.mark.parametrize("asked", ["yes", 1, None, 16])
    def test_what_is_no_answer(self, asked, tmp_path):
        with pytest.raises(psu.InputError, match="sequence must be True or False"):
            psu.export(NETWORK, tmp_path / "net.onnx", sequence=asked)

    def test_beyond_the_horizon(self, tmp_path):
        runner = psu.load(export(NETWORK, tmp_path / "net.onnx"))
        runner.run(np.zeros((6, 1, 5), np.float32))
        with pytest.raises(psu.HorizonError):
            runner.step(np.zeros((1, 5), np.float32))

    def test_what_overflows(self, tmp_path):
        """The first bad row of an output tells from when on, of what stays inside the call is all that is known."""
        runner = psu.load(export(chain((1,), ops.Affine(np.float64(1e30), np.float64(0))), tmp_path / "net.onnx"))
        with pytest.raises(psu.StateError, match="the output overflowed in one of the steps 3 to 5"):
            runner.run(np.float32([0, 1, 1e9, 0, 1])[:, None, None])
        with pytest.raises(psu.StateError, match="overflowed"):
            runner.step(np.zeros((1, 1), np.float32))
        held = psu.load(export(chain((1,), neuron(o.Leak(1e30, 1.0))), tmp_path / "net.onnx"))
        with pytest.raises(psu.StateError, match="layer 'a': V overflowed in one of the steps 1 to 4"):
            held.run(np.full((4, 1, 1), 1e9, np.float32))
        held.reset(1)
        held.run(np.zeros((4, 1, 1), np.float32))

    def test_what_is_not_finite(self, tmp_path):
        runner = psu.load(export(NETWORK, tmp_path / "net.onnx"))
        with pytest.raises(psu.InputError):
            runner.run(np.full((2, 1, 5), np.nan, np.float32))


def attribute(model, name):
    return next(a for a in model.graph.node[0].attribute if a.name == name)


def in_reverse(model):
    model.graph.node[0].attribute.append(helper.make_attribute("scan_input_directions", [1]))


def swapped(model):
    names = model.graph.node[0].output
    names[0], names[1] = names[1], names[0]


def another_type(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def weight_inside(model):
    attribute(model, "body").g.initializer.append(model.graph.initializer[0])


def node_outside(model):
    model.graph.node.append(helper.make_node("Identity", ["x"], ["other"]))


def foreign_inside(model):
    attribute(model, "body").g.node.append(helper.make_node("Atan", ["a"], ["other"]))


CHANGES = {
    "backwards": (in_reverse, "other attributes"),
    "states exchanged": (swapped, "does not write the outputs and all state"),
    "another axis": (another_type, "of another type or shape than in one step"),
    "weights inside": (weight_inside, "weights are not where"),
    "a node outside": (node_outside, "no single Scan"),
    "over everything": (lambda model: setattr(attribute(model, "num_scan_inputs"), "i", 2), "more than the input"),
    "a foreign operator": (foreign_inside, "operator 'Atan'"),
    "no input": (lambda model: attribute(model, "body").g.input.pop(), "other inputs and outputs than its body"),
    "input exchanged": (lambda model: model.graph.node[0].input.insert(0, model.graph.node[0].input.pop()), "read the"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_refused(name, tmp_path):
    path, (change, said) = export(NETWORK, tmp_path / "net.onnx"), CHANGES[name]
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(psu.ArtifactError, match=said):
        psu.load(path)


def test_a_step_that_says_it_is_a_sequence(tmp_path):
    path = psu.export(NETWORK, tmp_path / "net.onnx").path
    model = onnx.load(path)
    model.metadata_props.add(key="psu_deploy.sequence", value=json.dumps(True))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(psu.ArtifactError, match="no single Scan"):
        psu.load(path)


def test_a_sequence_that_says_it_is_a_step(tmp_path):
    path = export(NETWORK, tmp_path / "net.onnx")
    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != "psu_deploy.sequence"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(psu.ArtifactError, match="operator 'Scan'"):
        psu.load(path)


def test_a_name_that_is_taken(tmp_path):
    """Layers may be called as the values in a body are."""
    machine = chain((3,), NEURONS["psu"], ops.Linear(normal(3, 3)), NEURONS["psu"], names=("y.t", "x.t", "y.t'"))
    x = inputs(machine, 4, 2)
    runner = psu.load(export(machine, tmp_path / "net.onnx"))
    np.testing.assert_array_equal(runner.run(x), machine.run(x))
    np.testing.assert_array_equal(runner.trace(x).output, machine.run(x))


def test_the_command(tmp_path):
    NETWORK.save(tmp_path / "net.psm")
    result = call("export", tmp_path / "net.psm", "--to", "onnx", "--out", tmp_path, "--sequence")
    assert result.code == 0, result
    np.save(tmp_path / "x.npy", inputs(NETWORK, 5, 2))
    result = call("verify", tmp_path / "net.psm", tmp_path / "model.onnx", "--data", tmp_path / "x.npy")
    assert "EQUIVALENT" in result.out, result
