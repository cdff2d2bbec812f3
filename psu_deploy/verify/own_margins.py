"""What a run says of its own decisions, held against itself: spikes against margins, and margins against V and R.

This is sharper than exact arithmetic, whose bound covers everything that led to V and R: between them and the spike
there are two subtractions and a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops import LIFNeuron, SpikingNeuron
from psu_deploy.machine.ops.fields import Array
from psu_deploy.machine.ops.roundoff import UNDERFLOW, UNIT_ROUNDOFF, Arithmetic

_OF_VALUES, _OF_THRESHOLD = 6, 3
"""Units of |V| + |R| and of |V_th|. V and R may be rounded when they are told and not yet when they are compared; each
of two differences is rounded; whichever way, which is two units each, but for V_th, which is rounded to nearest."""


def wrong_decisions(machine: StateMachine, trace: Trace, precision: str, arithmetic: Arithmetic) -> list[str]:
    """Everything in a trace that no rounding makes of its own V, R and margins, in words.

    Args:
        machine: says how every layer decides.
        trace: aligned; layers of which it tells no margin are passed over.
        precision: of the arithmetic that made it, "float32" or "float64".
        arithmetic: in which operations the run differs from the machine.
    """
    return [
        problem
        for node in machine.nodes
        if node.name in trace.margin
        for problem in (
            *_turned(node.name, getattr(node.layer, "fire_on", ">"), trace),
            *(() if arithmetic.remembers_margin else _elsewhere(node.name, node.layer, trace, precision)),
        )
    ]


def _turned(name: str, fire_on: str, trace: Trace) -> Iterator[str]:
    """No rounding turns a decision against its own margin."""
    margin, spikes = (_wide(values[name]) for values in (trace.margin, trace.spikes))
    fired = margin >= 0 if fire_on == ">=" else margin > 0
    if not np.array_equal(fired, spikes):
        yield f"spikes of layer {name!r} contradict its own margins, first at step {_first(fired != spikes)}"


def _elsewhere(name: str, layer: Any, trace: Trace, precision: str) -> Iterator[str]:
    """A margin is V - R - V_th, so that V_th can be told to a few units in its last place."""
    if type(layer) not in (SpikingNeuron, LIFNeuron) or name not in trace.potential or name not in trace.reset:
        return
    potential, reset, margin = (_wide(values[name]) for values in (trace.potential, trace.reset, trace.margin))
    units = _OF_VALUES * (np.abs(potential) + np.abs(reset)) + _OF_THRESHOLD * abs(layer.threshold)
    off = np.abs(margin - (potential - reset - layer.threshold))
    beyond = ~(off <= UNIT_ROUNDOFF[precision] * units + _OF_VALUES * UNDERFLOW[precision])
    if beyond.any():
        yield (
            f"layer {name!r} does not fire at {layer.threshold:.9g}: V - R less its margin is another number, by "
            f"{off[beyond].max():.3g}, more than rounding explains, first at step {_first(beyond)}"
        )


def _first(where: Array) -> int:
    return int(where.reshape(len(where), -1).any(1).argmax())


def _wide(values: Any) -> Array:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
