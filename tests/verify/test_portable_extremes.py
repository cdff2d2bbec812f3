"""Numbers at the ends of binary32, where a runtime loses what the equations keep: nothing there may be certified."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops

WINDOW = ((0, 0), (0, 0))
F = np.float32


def fires(threshold, integrate=None, source="x"):
    return Node(
        "n", ops.SpikingNeuron(integrate or ops.Identity(), None, ops.Sigmoid(), None, threshold, ">="), (source,)
    )


def taken():
    return [Node(name, ops.Take(0, (place,)), ("x",)) for place, name in enumerate("abc")]


def averaged(size, threshold):
    pool = Node("pool", ops.AvgPool((size, size), (1, 1), WINDOW, True), ("x",))
    return StateMachine((pool, fires(threshold, source="pool")), (1, size, size))


def mean(numbers):
    """One after the other, and divided in the end."""
    total = F(0)
    for number in numbers:
        total = F(total + F(number))
    return total / F(len(numbers))


def largest_errors(size):
    """Numbers whose partial sums are each rounded by nearly half an ulp, in one direction."""
    values = np.full(size * size, 2.0**-19 * (1 + 2**-20))
    values[0] = 32 + 2.0**-18
    return values.astype(F)


@pytest.mark.parametrize("size", [7, 9])
def test_a_mean_is_rounded_as_the_sum_that_it_is_made_of(size):
    values = largest_errors(size)
    threshold = float(mean(values))
    exact = float(values.astype(np.float64).mean())
    layer = psu.certify(averaged(size, threshold), values.reshape(1, 1, 1, size, size)).layers[0]
    assert exact < threshold  # exact arithmetic does not fire, this order does
    assert not layer.certified.any()
    assert layer.bound.max() >= threshold - exact


def multiplied(threshold):
    product = Node("p", ops.Multiply(), ("a", "b", "c"))
    return StateMachine((*taken(), product, fires(threshold, source="p")), (3,))


def leaking(threshold, operator):
    return StateMachine((fires(threshold, operator),), (1,))


def reduced(threshold):
    return StateMachine((Node("r", ops.Reduce("mean", (0,)), ("x",)), fires(threshold, source="r")), (81,))


NINE = np.full(81, -1e37, F)
CASES = {
    "a threshold that is 0 in binary32": (leaking(1e-320, None), [0.0]),
    "a gain that is": (leaking(1.2e-8, ops.Leak(1e-45, 0.5)), [1e37]),
    "a decay that is": (leaking(1.2e-8, ops.Leak(1.0, 1e-45)), [1e37, 0.0]),
    "the sum of a window": (averaged(9, -2e37), NINE.reshape(1, 9, 9)),
    "the sum of a mean": (reduced(-2e37), NINE),
    "part of a product overflows": (multiplied(2e30), [[1e30, 1e30, 1e-30]]),
    "part of a product is lost": (multiplied(5e-21), [[1e-25, 1e-25, 1e30]]),
    "a gain makes an overflow": (leaking(-1e37, ops.StrictLeak(100.0, 0.001)), [-1e37, -1e37]),
    "a gain loses what a decay brings back": (leaking(5e-21, ops.StrictLeak(1e-25, 1e30)), [1e-25, 1e-25]),
}
"""What is lost -> a machine whose last decision binary32 makes otherwise than the equations, and its input."""


@pytest.mark.parametrize("name", CASES)
def test_what_a_runtime_loses_is_not_certified(name):
    machine, x = CASES[name]
    x = np.asarray(x, F).reshape(-1, 1, *machine.input_shape)
    assert not psu.certify(machine, x).layers[0].certified[-1].any()


def test_where_nothing_is_lost_it_is():
    """The same machines on numbers of an ordinary size."""
    for machine in (averaged(9, 0.3), multiplied(0.3), reduced(0.3), leaking(0.3, ops.StrictLeak(1.0, 0.5))):
        x = np.full((2, 1, *machine.input_shape), 0.9, F)
        assert psu.certify(machine, x).ok


def test_an_eps_that_binary32_does_not_have():
    with pytest.raises(psu.InputError, match="eps must be 0 or a normal number of float32"):
        ops.LayerNorm((4,), 1e-50, None, None)
