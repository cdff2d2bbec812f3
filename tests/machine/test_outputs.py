"""A machine with several outputs: each by its name, with its own axes, all of one step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psu_deploy.errors import InputError
from psu_deploy.machine import Node, StateMachine, ops
from tests.helpers import step_by_step
from tests.zoo import NEURONS, normal

WEIGHT = normal(4, 3)


def machine_of(*nodes, output=""):
    linear = Node("a", ops.Linear(WEIGHT), ("x",))
    return StateMachine((linear, Node("spikes", NEURONS["psu"], ("a",)), *nodes), (3,), output)


@pytest.fixture
def machine():
    square = Node("square", ops.Reshape((2, 2)), ("a",))
    return machine_of(square, Node("end", ops.Outputs(("sum", "s", "same")), ("square", "spikes", "square")))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_each_is_what_its_layer_gives(machine, kind):
    x = kind(normal(5, 2, 3))
    expected = np.asarray(x) @ WEIGHT.T
    stepped, _ = step_by_step(machine, x)
    for y in (machine.run(x), machine.trace(x).output, stepped):
        assert list(y) == ["sum", "s", "same"]
        assert all(type(values) is type(x) and values.dtype == x.dtype for values in y.values())
        np.testing.assert_allclose(y["sum"], expected.reshape(5, 2, 2, 2))
        np.testing.assert_array_equal(y["same"], y["sum"])
        np.testing.assert_array_equal(y["s"], machine.trace(x).spikes["spikes"])


def test_what_a_caller_writes_into_one_touches_no_other(machine):
    x, state = normal(2, 3), machine.initial_state(2)
    y, _ = machine.step(x, state)
    y["sum"][:] = 7.0
    np.testing.assert_allclose(y["same"], (x @ WEIGHT.T).reshape(2, 2, 2))


def test_one_alone(machine):
    x = normal(5, 2, 3)
    alone = machine.only("sum")
    assert [node.name for node in alone.nodes] == ["a", "square"]
    np.testing.assert_array_equal(alone.run(x), machine.run(x)["sum"])
    assert alone.only("y") is alone
    with pytest.raises(InputError, match=r"there is no output 'spikes'; there are \['sum', 's', 'same'\]"):
        machine.only("spikes")


def test_a_single_output_is_called_y():
    assert machine_of().outputs == {"y": (4,)}
    assert list(machine_of().trace(normal(5, 2, 3)).outputs) == ["y"]


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ([Node("end", ops.Outputs(("one", "two")), ("a",))], "", "Outputs"),
        (
            [Node("end", ops.Outputs(("one", "two")), ("a", "a", "a"))],
            "",
            "names 2 outputs, .*, and reads 3",
        ),
        ([Node("end", ops.Outputs(("one", "two")), ("a", "a"))], "spikes", "Outputs is the last layer of a network"),
        (
            [Node("end", ops.Outputs(("one", "two")), ("a", "a")), Node("b", ops.Flatten(), ("end",))],
            "end",
            "Outputs is the last layer of a network, which no other reads",
        ),
    ],
)
def test_they_end_the_network(nodes, output, message):
    with pytest.raises(InputError, match=message):
        machine_of(*nodes, output=output)


def test_they_belong_to_one_step():
    nodes = (Node("late", ops.Wait(1), ("a",)), Node("end", ops.Outputs(("now", "late")), ("a", "late")))
    with pytest.raises(InputError, match="its inputs belong to different steps"):
        machine_of(*nodes)
