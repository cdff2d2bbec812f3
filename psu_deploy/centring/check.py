"""Holds a network with moved thresholds against the one it was: exact arithmetic's spikes and outputs stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from psu_deploy.capture import trace_module
from psu_deploy.centring.decisions import exact_run
from psu_deploy.errors import InternalError
from psu_deploy.forms import like_parameters
from psu_deploy.machine import StateMachine
from psu_deploy.verify import aligned_run

Spikes = dict[str, Any]
Outputs = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A model, and the machine that it is.

    Args:
        model: a module, or the machine itself.
        machine: what the module was captured as.
    """

    model: nn.Module | StateMachine
    machine: StateMachine

    def run(self, x: Any) -> tuple[Spikes, Outputs]:
        """Spikes (T, B, *features) by neuron layer, and outputs, in the model's own precision; a module in parallel."""
        if isinstance(self.model, StateMachine):
            trace = aligned_run(self.machine, self.machine.trace, x)
        else:
            trace = trace_module(self.model, self.machine, like_parameters(x, self.model))
        spikes = {name: _numpy(trace.spikes[name]) != 0 for name in self.machine.spiking}
        return spikes, {name: _numpy(values) for name, values in trace.outputs.items()}


def check_exact(before: StateMachine, after: StateMachine, x: Any) -> Spikes:
    """Spikes of both in exact arithmetic.

    Raises:
        InternalError: if they, or the outputs, are not the same, bit for bit.
    """
    old, new = exact_run(before, x), exact_run(after, x)
    for name in before.spiking:
        if not np.array_equal(old.spikes[name], new.spikes[name]):
            raise InternalError(f"centring changed spikes of layer {name!r} in exact arithmetic")
    for name, values in old.outputs.items():
        if not np.array_equal(values, new.outputs[name]):
            raise InternalError(f"centring changed the output {name!r} in exact arithmetic")
    return {name: old.spikes[name] != 0 for name in before.spiking}


def unlike(one: Spikes | Outputs, other: Spikes | Outputs) -> int:
    """Decisions, or values of outputs, that are not the same in both."""
    return sum(int((one[name] != rows).sum()) for name, rows in other.items())


def first_changed(exact: Spikes, before: Spikes, after: Spikes) -> str | None:
    """The first layer with a spike that is another than before, and not that of exact arithmetic; None = no layer."""
    for name, rows in after.items():
        if bool(((rows != before[name]) & (rows != exact[name])).any()):
            return name
    return None


def _numpy(values: Any) -> Any:
    return values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
