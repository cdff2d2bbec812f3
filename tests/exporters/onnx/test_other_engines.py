"""Our files as other engines see them: onnxruntime at each level of optimisation, and ONNX's own reference."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from tests.exporters.onnx.test_layers import CLOSE
from tests.helpers import step_by_step
from tests.zoo import MACHINES, inputs, random_state, steps_of

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def optimised(path, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


ENGINES = {level: lambda path, level=level: optimised(path, level) for level in LEVELS} | {
    "onnx.reference": lambda path: ReferenceEvaluator(str(path))
}


WRONG_IN_REFERENCE = {"transposed conv1d, groups, dilation"}
"""It takes one output channel per group for granted: `final[image_id, group_id : (group_id + 1), ...]` (onnx 1.23)."""

CASES = [
    (name, engine)
    for name in MACHINES
    for engine in ENGINES
    if not (engine == "onnx.reference" and name in WRONG_IN_REFERENCE)
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "engine"), CASES)
def test_every_engine_agrees(name, engine, file_of):
    """State threaded by hand, from a random one."""
    machine, run = MACHINES[name], ENGINES[engine](file_of(name))
    x, state = inputs(machine, steps_of(machine), 2), random_state(machine, 2)
    expected, expected_state = step_by_step(machine, x, state)
    found = []
    for x_t in x:
        y, *following = run.run(None, {"x": x_t, **state})
        state = dict(zip(state, following, strict=True))
        found.append(y)
    np.testing.assert_allclose(np.stack(found), expected, **CLOSE)
    for key, value in expected_state.items():
        np.testing.assert_allclose(state[key], value, **CLOSE, err_msg=key)
