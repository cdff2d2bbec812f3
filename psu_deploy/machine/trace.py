"""What a run of a network looked like, step by step and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psu_deploy.machine.schedule import OUTPUT


@dataclass(frozen=True)
class Trace:
    """Everything that was decided during a run.

    Each dictionary maps a neuron layer's name to an array (T, B, *features), in network order.

    Attributes:
        output: the network's output per step, (T, B, *features); of a network with several, a dictionary of them.
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

    @property
    def outputs(self) -> dict[str, Any]:
        """Name -> output per step, of all outputs; the only one is called `"y"`."""
        return dict(self.output) if isinstance(self.output, Mapping) else {OUTPUT: self.output}

    def with_outputs(self, change: Callable[[Any], Any]) -> Trace:
        """The same trace, its outputs changed one by one."""
        return replace(self, output=sole({name: change(values) for name, values in self.outputs.items()}))


def sole(outputs: Mapping[str, Any]) -> Any:
    """The output itself where there is one, as networks give it; else the dictionary of all."""
    return outputs[OUTPUT] if tuple(outputs) == (OUTPUT,) else dict(outputs)
