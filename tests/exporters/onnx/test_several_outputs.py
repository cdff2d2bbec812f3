"""A step graph with several outputs: its runner, and files in which somebody changed what they are."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from tests.zoo import NEURONS, normal

NODES = (
    Node("a", ops.Linear(normal(3, 3)), ("x",)),
    Node("s", NEURONS["lif"], ("a",)),
    Node("squares", ops.Multiply(), ("a", "a")),
    Node("end", ops.Outputs(("sum", "fired", "squares", "sum again")), ("a", "s", "squares", "a")),
)
X = normal(8, 2, 3).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return psu.export(StateMachine(NODES, (3,)), tmp_path / "net.onnx").path


@pytest.fixture
def runner(path):
    return psu.load(path, threads=1)


def test_steps_are_the_run(runner):
    """From the beginning, from another state, and again after a reset."""
    whole = runner.run(X)
    runner.reset(2)
    rows = [runner.step(x) for x in X[:3]]
    runner.reset(2, runner.state)
    rows += [runner.step(x) for x in X[3:]]
    for name, y in StateMachine(NODES, (3,)).run(X).items():
        np.testing.assert_array_equal(np.stack([row[name] for row in rows]), whole[name])
        np.testing.assert_allclose(whole[name], y, atol=1e-5)


def test_one_that_overflows_is_noticed(runner):
    x = X.copy()
    x[5] = 1e30
    runner.reset(2)
    for x_t in x[:5]:
        runner.step(x_t)
    with pytest.raises(psu.StateError, match="the output"):
        runner.step(x[5])
    with pytest.raises(psu.StateError, match="the output"):
        runner.run(x)


SUM, FIRED, SQUARES, AGAIN = range(4)
CHANGED = {
    "two names of one value": lambda ends: [*ends, ends[SUM] | {"name": "more"}],
    "a state": lambda ends: [*ends, ends[FIRED] | {"name": "more", "value": "s.V.next"}],
    "one name of two values": lambda ends: [ends[SUM], ends[AGAIN] | {"name": "sum"}, *ends[FIRED:AGAIN]],
    "one is missing": lambda ends: ends[:AGAIN],
    "one alone": lambda ends: ends[:1],
    "none": lambda ends: [],
    "no text": lambda ends: [ends[SUM] | {"name": "a\0b"}, *ends[FIRED:]],
    "half a letter": lambda ends: [ends[SUM] | {"name": "\ud800"}, *ends[FIRED:]],
    "no name": lambda ends: [ends[SUM] | {"name": ""}, *ends[FIRED:]],
    "another shape": lambda ends: [ends[SUM] | {"shape": [4]}, *ends[FIRED:]],
}


@pytest.mark.rows(len(CHANGED))
@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_file_is_refused(path, name):
    changed(path, CHANGED[name])
    with pytest.raises(psu.ArtifactError, match="has malformed psu_deploy"):
        psu.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda ends: [ends[SUM] | {"name": "squares"}, ends[FIRED], ends[SQUARES] | {"name": "sum"}, ends[AGAIN]],
        lambda ends: (
            [ends[SUM] | {"value": ends[SQUARES]["value"]}, ends[FIRED]]
            + [ends[SQUARES] | {"value": ends[SUM]["value"]}, ends[AGAIN]]
        ),
        lambda ends: ends[::-1],
    ],
)
def test_verify_finds_outputs_that_were_exchanged(path, change):
    changed(path, change)
    report = psu.verify(StateMachine(NODES, (3,)), psu.load(path, threads=1), X)
    assert not report.ok
    assert "its metadata say outputs" in report.verdict


def changed(path, change):
    model = onnx.load_model(path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "psu_deploy.outputs")
    entry.value = json.dumps(change(json.loads(entry.value)))
    onnx.save_model(model, path)
