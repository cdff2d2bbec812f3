"""What a run of a network looked like, step by step and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Trace:
    """Everything that was decided during a run.

    Each dictionary maps a neuron layer's name to an array (T, B, *features), in network order.

    Attributes:
        output: the network's output per step, (T, B, *features).
        spikes: S, 0.0 or 1.0.
        potential: V, before the reset is subtracted.
        reset: R.
        margin: V - R - threshold; its sign is the decision.
        state: after the last step, name -> (B, *shape); empty where the run cannot tell.
        estimate: E, what the estimator of the spikes saw: V where the neuron has no estimate of its own, zero where it
            has no reset. Told by `StateMachine.trace` alone.
    """

    output: Any
    spikes: dict[str, Any] = field(default_factory=dict)
    potential: dict[str, Any] = field(default_factory=dict)
    reset: dict[str, Any] = field(default_factory=dict)
    margin: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)
