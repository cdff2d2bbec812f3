"""Machine time and network time: a machine with latency answers late, and is compared as if it did not.

A machine of latency L is fed L silent steps more than the sequence has. Row t + l of a layer that lags by l steps
belongs to step t of the sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops import Neuron, TimeConv


def check_lookahead(machine: StateMachine) -> None:
    """Raise `UnsupportedModelError` naming every layer that looks ahead at what neurons emit.

    Its last answers depend on spikes that belong to no step of the sequence, so no aligned trace has them.
    """
    fired: set[str] = set()
    problems = []
    for node in machine.nodes:
        seen = not fired.isdisjoint(node.inputs)
        if seen or isinstance(node.layer, Neuron):
            fired.add(node.name)
        if seen and isinstance(node.layer, TimeConv) and node.layer.lookahead:
            reason = f"looks {node.layer.lookahead} step(s) ahead at what neurons emit: at the end, after the sequence"
            problems.append(Problem(node.name, "TimeConv", reason, "look ahead before the first neurons only"))
    if problems:
        raise UnsupportedModelError(problems, "judge the network by exact arithmetic")


def drained(machine: StateMachine, x: Any) -> Any:
    """The sequence and what follows it until the last answer is out, (T + latency, B, ...), numpy or torch.

    Silence follows; an image that is shown at every step goes on being shown.
    """
    if machine.latency == 0:
        return x
    shape = (machine.latency, *x.shape[1:])
    if isinstance(x, Tensor):
        return torch.cat([x, x[:1].expand(shape) if machine.static_input else x.new_zeros(shape)])
    return np.concatenate([x, np.broadcast_to(x[:1], shape) if machine.static_input else np.zeros(shape, x.dtype)])


def aligned(machine: StateMachine, trace: Trace, steps: int) -> Trace:
    """The rows of a trace that belong to the `steps` steps of a sequence, layer by layer."""
    if machine.latency == 0:
        return trace

    def rows(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value[machine.latencies[name] :][:steps] for name, value in values.items()}

    parts = {name: rows(getattr(trace, name)) for name in ("spikes", "potential", "reset", "margin", "estimate")}
    return replace(trace.with_outputs(lambda values: values[machine.latency :]), **parts)


def aligned_run(machine: StateMachine, run: Callable[..., Trace], x: Any, state: Any = None) -> Trace:
    """Run a sequence to its very end and give every layer's rows the numbers of the steps they belong to.

    Args:
        machine: says by how much every layer lags.
        run: `machine.trace` or a runner's `trace`.
        x: (T, B, *input_shape).
        state: where to start; None = the initial state.
    """
    return aligned(machine, run(drained(machine, x), state), len(x))


def in_machine_time(machine: StateMachine, spikes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Aligned spikes as the machine emits them: late, and silent before and after."""

    def late(name: str, rows: Tensor) -> Tensor:
        before = machine.latencies[name]
        silence = [rows.new_zeros(n, *rows.shape[1:]) for n in (before, machine.latency - before)]
        return torch.cat([silence[0], rows, silence[1]])

    return {name: late(name, rows) for name, rows in spikes.items()} if machine.latency else dict(spikes)
