"""Layers behind a look-ahead start late: until then their state stays as it is and their output is zero."""

from __future__ import annotations

import numpy as np
import pytest

from psu_deploy.errors import HorizonError
from psu_deploy.machine import Node, StateMachine, ops
from tests.helpers import ROUNDING
from tests.zoo import LAYERS, NEURONS, inputs, random_state, steps_of

LATE = 2
ALL = {name: (layer, features) for name, (layer, features) in LAYERS.items()}
ALL |= {f"{name} neuron": (layer, (3,)) for name, layer in NEURONS.items()}

each_layer = pytest.mark.parametrize(("layer", "features"), ALL.values(), ids=ALL)


def behind(layer, features, *waiting):
    """The layer alone, or behind others."""
    nodes = [Node(f"w{i}", before, ("x" if i == 0 else f"w{i - 1}",)) for i, before in enumerate(waiting)]
    last = nodes[-1].name if nodes else "x"
    return StateMachine((*nodes, Node("layer", layer, (last,))), features)


def own(state):
    return {name: value for name, value in state.items() if name.startswith("layer.")}


@each_layer
def test_it_is_the_same_layer_later(layer, features):
    """Outputs and state are those of the layer alone, on the sequence without the wait."""
    alone, late = behind(layer, features), behind(layer, features, ops.Wait(LATE))
    x = inputs(alone, steps_of(alone), 2).astype(np.float64)
    followed = np.concatenate([x, np.zeros((LATE, *x.shape[1:]))])
    got, expected = late.trace(followed), alone.trace(x)
    assert not got.output[: LATE + layer.lookahead].any()
    np.testing.assert_allclose(got.output[LATE:], expected.output, **ROUNDING)
    for name, value in own(expected.state).items():
        np.testing.assert_allclose(got.state[name], value, **ROUNDING)
    for name in alone.spiking:
        np.testing.assert_array_equal(got.spikes[name][LATE:], expected.spikes[name])
        np.testing.assert_allclose(got.margin[name][LATE:], expected.margin[name], **ROUNDING)


@each_layer
def test_state_stays_until_the_start(layer, features):
    machine = behind(layer, features, ops.Wait(1), ops.Wait(LATE - 1))
    state = random_state(machine, 2)
    before, now = own(state), state
    for x_t in inputs(machine, LATE, 2):
        y, now = machine.step(x_t, now)
        assert not y.any()
        for name, value in before.items():
            np.testing.assert_array_equal(now[name], value)


@pytest.mark.parametrize("name", ["rpsu", "banded", "bernoulli on a window"])
def test_the_horizon_begins_at_the_start(name):
    machine = behind(NEURONS[name], (3,), ops.Wait(LATE))
    alone = behind(NEURONS[name], (3,))
    assert machine.horizon == alone.horizon + LATE
    x = inputs(machine, machine.horizon + 1, 1)
    machine.run(x[:-1])
    with pytest.raises(HorizonError):
        machine.run(x)
