"""The written file as any ONNX tool sees it: valid, fully typed, dynamic in the batch, no more nodes than needed."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version

import numpy as np
import onnx
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from tests.zoo import LEAK, MACHINES, NEURONS, STEPS, STRICT, chain, neuron, normal

each_machine = pytest.mark.parametrize("name", MACHINES)


@pytest.fixture
def machine(name):
    return MACHINES[name]


@pytest.fixture
def model(name, file_of):
    return onnx.load(file_of(name))


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.rows(40)
@each_machine
def test_the_checker_accepts_it(machine, model):
    onnx.checker.check_model(model, full_check=True)
    (opset,) = model.opset_import
    assert opset.domain == ""
    assert opset.version >= 18


@each_machine
def test_every_value_has_dtype_and_shape(machine, model):
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    typed = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    constants = {tensor.name for tensor in graph.initializer}
    for name in {name for node in graph.node for name in (*node.input, *node.output)} - constants:
        tensor = typed[name].type.tensor_type
        assert tensor.elem_type != onnx.TensorProto.UNDEFINED, name
        assert tensor.HasField("shape"), name
        assert all(dims(typed[name])), (name, dims(typed[name]))


@each_machine
def test_inputs_and_outputs_are_one_step(machine, model):
    """(x, state...) -> (y, state....next), with a named batch axis on everything but the step counter."""
    inputs = {value.name: dims(value) for value in model.graph.input}
    outputs = {value.name: dims(value) for value in model.graph.output}
    state = {name: ["batch", *spec.shape] if spec.batched else [] for name, spec in machine.state_spec.items()}
    assert inputs == {"x": ["batch", *machine.input_shape]} | state
    assert outputs == {"y": ["batch", *machine.shapes[machine.output]]} | {f"{n}.next": s for n, s in state.items()}
    dtypes = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    counters = {"step", "step.next"} & dtypes.keys()
    assert {dtypes.pop(name) for name in counters} <= {onnx.TensorProto.INT64}
    assert set(dtypes.values()) == {onnx.TensorProto.FLOAT}


def all_nodes(graph):
    """Those of the branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


@each_machine
def test_every_value_has_a_name_of_its_own(machine, model):
    names = [v.name for v in model.graph.input] + [t.name for t in model.graph.initializer]
    names += [name for node in all_nodes(model.graph) for name in node.output]
    assert max(Counter(names).values()) == 1
    assert set(names) >= {v.name for v in model.graph.output}


@each_machine
def test_metadata_is_enough_to_thread_the_state(machine, model):
    metadata = {p.key.removeprefix("psu_deploy."): json.loads(p.value) for p in model.metadata_props}
    states = {s["name"]: (tuple(s["shape"]), s["dtype"], s["batched"], s["initial"]) for s in metadata["states"]}
    assert states == {name: (*spec, 0) for name, spec in machine.state_spec.items()}
    assert {s["input"] for s in metadata["states"]} | {"x"} == {v.name for v in model.graph.input}
    assert {s["output"] for s in metadata["states"]} | {"y"} == {v.name for v in model.graph.output}
    assert metadata["input"] == {"name": "x", "shape": list(machine.input_shape)}
    assert metadata["output"] == {"name": "y", "shape": list(machine.shapes[machine.output])}
    assert metadata["horizon"] == machine.horizon
    assert metadata["machine_hash"] == machine.content_hash


def test_artifact_says_what_is_known(tmp_path):
    machine = chain((3,), NEURONS["rpsu"])
    artifact = psu.export(machine, tmp_path / "net.onnx")
    assert (artifact.path, artifact.target) == (tmp_path / "net.onnx", "onnx")
    assert (artifact.fidelity, artifact.approximations) == ("faithful", ())
    assert (artifact.horizon, artifact.latency) == (STEPS, 0)
    assert artifact.machine_hash == machine.content_hash
    packages = ("psu-deploy", "onnx", "onnx-ir", "onnxruntime", "torch", "numpy")
    assert artifact.versions == {name: version(name) for name in packages}
    assert psu.load(artifact).artifact == artifact


def test_latency_is_recorded(tmp_path):
    machine = StateMachine((Node("late", ops.Wait(2), ("x",)),), (3,))
    assert psu.load(psu.export(machine, tmp_path / "net.onnx")).artifact.latency == 2


# What every neuron must cost, counted from its equations.
LEAK_NODES = Counter(Mul=2, Add=1)  # decay*y + gain*x
STRICT_NODES = Counter(Add=1, Mul=2)  # decay*(y + gain*x)
FIRE = Counter(GreaterOrEqual=1, Cast=1)
RESET = FIRE + Counter(Sub=1)
COUNTER = Counter(Add=1)  # step + 1
SUMS = Counter(Gather=3, Mul=2, Add=2, Sub=1, Unsqueeze=1)  # two rows of the matrix, the sum due; step - 1
BIAS = Counter(Gather=1, Add=1)
SLIDE = Counter(Gather=1, Mul=2, Add=2, Unsqueeze=1, Pad=1, Slice=1)  # the sum due; shift
COST = {
    "psu": LEAK_NODES + Counter(Sigmoid=1) + STRICT_NODES + RESET,
    "rpsu": LEAK_NODES + SUMS + BIAS + Counter(Sigmoid=1) + STRICT_NODES + RESET + COUNTER,
    "ipsu": SUMS + LEAK_NODES + Counter(Sigmoid=1) + STRICT_NODES + RESET + COUNTER,
    "ppsu": SUMS + BIAS + Counter(Sigmoid=1) + STRICT_NODES + RESET + COUNTER,
    "sliding": SLIDE + Counter(Add=1) + FIRE,
    "banded": SLIDE + Counter(Gather=2) + BIAS + FIRE + COUNTER,
    "sum of exponentials": Counter(Unsqueeze=1, Mul=2, Add=1, ReduceSum=1, Sigmoid=1) + STRICT_NODES + RESET,
    "lif": Counter(Sub=1, Div=1, Add=1) + FIRE + Counter(Sub=1, Mul=1),  # V + (I - V)/tau; (1 - S) H
    "lif soft": Counter(Sub=1, Div=1, Add=1) + Counter(Greater=1, Cast=1) + Counter(Mul=1, Sub=1),  # H - S V_th
    "lif undivided": Counter(Div=1, Sub=1, Add=1) + Counter(Greater=1, Cast=1) + Counter(Sub=1, Mul=1),
    "if soft": Counter(Add=1) + FIRE + Counter(Mul=1, Sub=1),
}


def histogram(machine, path):
    return Counter(node.op_type for node in onnx.load(psu.export(machine, path).path).graph.node)


@pytest.mark.parametrize("name", COST)
def test_a_neuron_is_only_its_equation(name, tmp_path):
    assert histogram(chain((3,), NEURONS[name]), tmp_path / "net.onnx") == COST[name]


def test_factors_of_one_cost_nothing(tmp_path):
    machine = chain((3,), NEURONS["psu with factors of one"])
    saved = Counter(Mul=3)  # decay and gain of the leak, gain of the reset
    assert histogram(machine, tmp_path / "net.onnx") == COST["psu"] - saved


@pytest.mark.full
def test_layers_share_the_step_counter(tmp_path):
    machine = chain((3,), NEURONS["rpsu"], NEURONS["rpsu"])
    shared = COUNTER + Counter(Sub=1)  # step - 1
    assert histogram(machine, tmp_path / "net.onnx") == COST["rpsu"] + COST["rpsu"] - shared


def test_a_learned_bias_of_zero_is_left_out(tmp_path):
    machine = chain((3,), neuron(LEAK, NEURONS["ipsu"].integrate, STRICT))
    assert histogram(machine, tmp_path / "net.onnx") == COST["rpsu"] - BIAS


NAMES = [
    *("y", "x.next", "one", "axis_1", "a b", "a/b", "0", "\N{GREEK SMALL LETTER THETA}"),
    *("b.V", "b.V.next", "step.next", "previous_step", "copy", "y_2"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_may_have_any_name(name, tmp_path):
    """Names of layers come from the user's modules; names of states and outputs are ours."""
    nodes = (
        Node(name, ops.Linear(normal(3, 3)), ("x",)),
        Node("b", NEURONS["rpsu"], (name,)),
        Node("c", ops.Linear(normal(2, 3)), ("b",)),
    )
    machine = StateMachine(nodes, (3,))
    x = np.random.default_rng(0).normal(0.5, 2.0, (STEPS, 2, 3)).astype(np.float32)
    runner = psu.load(psu.export(machine, tmp_path / "net.onnx"))
    np.testing.assert_allclose(runner.run(x), machine.run(x), rtol=1e-5, atol=1e-5)
