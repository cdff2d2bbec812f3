"""The file needs nothing of ours: onnxruntime alone, state threaded by hand as the metadata says."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

import psu_deploy as psu
from tests.exporters.onnx.test_layers import CLOSE
from tests.zoo import MACHINES, NETWORKS, NEURONS, STEPS, chain, inputs, steps_of

HORIZON = [name for name, machine in MACHINES.items() if machine.horizon is not None]


def open_bare(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    return session, {key.removeprefix("psu_deploy."): json.loads(value) for key, value in properties.items()}


def initial_state(metadata, batch):
    return {
        s["input"]: np.full([batch, *s["shape"]] if s["batched"] else s["shape"], s["initial"], s["dtype"])
        for s in metadata["states"]
    }


def step(session, metadata, x, state):
    names = [metadata["output"]["name"], *(s["output"] for s in metadata["states"])]
    y, *following = session.run(names, {metadata["input"]["name"]: x, **state})
    return y, {s["input"]: value for s, value in zip(metadata["states"], following, strict=True)}


@pytest.mark.rows(15)
@pytest.mark.parametrize("name", MACHINES)
def test_threading_the_state_by_hand_gives_the_same(name, file_of):
    machine = MACHINES[name]
    session, metadata = open_bare(file_of(name))
    x = inputs(machine, steps_of(machine), 3)
    state, outputs = initial_state(metadata, 3), []
    for x_t in x:
        y, state = step(session, metadata, x_t, state)
        outputs.append(y)
    np.testing.assert_allclose(np.stack(outputs), machine.run(x), **CLOSE)


@pytest.mark.parametrize("name", HORIZON)
def test_a_step_past_the_horizon_is_an_error_of_onnxruntime(name, file_of):
    """Learned matrices have no row for it; nothing may be computed from another row."""
    machine = MACHINES[name]
    session, metadata = open_bare(file_of(name))
    state = initial_state(metadata, 1) | {"step": np.asarray(machine.horizon)}
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of data bounds"):
        step(session, metadata, inputs(machine, 1, 1)[0], state)


@pytest.mark.full
def test_the_file_runs_where_psu_deploy_is_not_imported(tmp_path):
    """One process, numpy and onnxruntime only."""
    machine = NETWORKS["residual"]
    psu.export(machine, tmp_path / "net.onnx")
    x = inputs(machine, STEPS, 2)
    np.save(tmp_path / "x.npy", x)
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), machine.run(x), **CLOSE)


SCRIPT = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
states = json.loads(session.get_modelmeta().custom_metadata_map["psu_deploy.states"])
x = numpy.load("x.npy")
feeds = {s["input"]: numpy.zeros([x.shape[1], *s["shape"]] if s["batched"] else [], s["dtype"]) for s in states}
outputs = []
for x_t in x:
    y, *following = session.run(["y", *(s["output"] for s in states)], feeds | {"x": x_t})
    feeds = {s["input"]: value for s, value in zip(states, following)}
    outputs.append(y)
numpy.save("y.npy", numpy.stack(outputs))
assert not [name for name in sys.modules if name.startswith(("psu_deploy", "torch"))]
"""


def test_the_batch_axis_is_dynamic(tmp_path):
    machine = chain((3,), NEURONS["rpsu"])
    session, metadata = open_bare(psu.export(machine, tmp_path / "net.onnx").path)
    for batch in (1, 2, 7):
        x = inputs(machine, 1, batch)
        y, _ = step(session, metadata, x[0], initial_state(metadata, batch))
        np.testing.assert_array_equal(y, machine.run(x)[0])
