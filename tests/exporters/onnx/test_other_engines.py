"""Our files as other engines see them: onnxruntime at each level of optimisation, slimmed, and ONNX's own reference."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import onnxslim
import pytest
from onnx.reference import ReferenceEvaluator

import psu_deploy as psu
from tests.exporters.onnx.test_events import EVENT_DRIVEN
from tests.exporters.onnx.test_layers import CLOSE
from tests.helpers import joined, step_by_step
from tests.zoo import MACHINES, inputs, random_state, steps_of

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def optimised(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def slimmed(path):
    """What a widely used tool makes of the file, without onnxruntime's own optimisations."""
    return optimised(onnxslim.slim(str(path)).SerializeToString(), "ORT_DISABLE_ALL")


ENGINES = {level: lambda path, level=level: optimised(path, level) for level in LEVELS} | {
    "onnx.reference": lambda path: ReferenceEvaluator(str(path)),
    "onnxslim": slimmed,
}


WRONG_IN_REFERENCE = {"transposed conv1d, groups, dilation"}
"""It takes one output channel per group for granted: `final[image_id, group_id : (group_id + 1), ...]` (onnx 1.23)."""

CASES = [
    (name, engine)
    for name in MACHINES
    for engine in ENGINES
    if not (engine == "onnx.reference" and name in WRONG_IN_REFERENCE)
]


def names_of_inputs(run):
    """Of a state that nothing reads, a slimmed file has no input."""
    return run.input_names if isinstance(run, ReferenceEvaluator) else [given.name for given in run.get_inputs()]


@pytest.mark.full
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_every_engine_agrees(name, engine, file_of):
    """State threaded by hand, from a random one."""
    check(MACHINES[name], ENGINES[engine](file_of(name)))


@pytest.mark.full
@pytest.mark.rows(9)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", EVENT_DRIVEN)
def test_every_engine_gathers_rows(name, engine, batch, tmp_path):
    machine = EVENT_DRIVEN[name]
    check(machine, ENGINES[engine](psu.export(machine, tmp_path / "net.onnx", events=True).path), batch)


def check(machine, run, batch=2):
    """Against the machine, step by step."""
    x, state = inputs(machine, steps_of(machine), batch), random_state(machine, batch)
    expected, expected_state = step_by_step(machine, x, state)
    found, read = [], names_of_inputs(run)
    for x_t in x:
        results = run.run(None, {name: value for name, value in {"x": x_t, **state}.items() if name in read})
        given, following = results[: len(machine.outputs)], results[len(machine.outputs) :]
        state = dict(zip(state, following, strict=True))
        found.append(joined(dict(enumerate(given)), axis=1) if len(given) > 1 else given[0])
    np.testing.assert_allclose(np.stack(found), joined(expected), **CLOSE)
    for key, value in expected_state.items():
        np.testing.assert_allclose(state[key], value, **CLOSE, err_msg=key)
