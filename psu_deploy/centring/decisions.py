"""What a network decides on x, in exact arithmetic, and how near to its thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.verify import aligned_run, certify


@dataclass(frozen=True)
class Decisions:
    """All decisions of one threshold.

    Attributes:
        below: largest V - R that did not fire; minus infinity where all fired.
        above: smallest V - R that fired; infinity where none did.
        up: how far rounding can lift what did not fire, V - R + bound, where that is above `below`.
        down: how far it can lower what fired, V - R - bound, where that is below `above`.
        tightest: smallest |V - R - V_th|.
        knife_edges: decisions whose |margin| is at most its rounding bound.
        count: how many there are.
    """

    below: float
    above: float
    up: Tensor
    down: Tensor
    tightest: float
    knife_edges: int
    count: int

    def __add__(self, other: Decisions) -> Decisions:
        below, above = max(self.below, other.below), min(self.above, other.above)
        up, down = torch.cat([self.up, other.up]), torch.cat([self.down, other.down])
        return Decisions(
            below,
            above,
            up[up > below],
            down[down < above],
            min(self.tightest, other.tightest),
            self.knife_edges + other.knife_edges,
            self.count + other.count,
        )


def exact_run(machine: StateMachine, x: Any) -> Trace:
    """The machine in float64, rows aligned to the steps of x; numpy."""
    return aligned_run(machine, machine.trace, np.asarray(x, np.float64))


def rounding_bounds(machine: StateMachine, x: Any, exact: Trace) -> Mapping[str, Tensor]:
    """Neuron layer -> how far float32 can move each of its margins, (T, B, *features), given these spikes."""
    return certify(machine, x, exact, precision="float32").bounds.margin


def decisions_of(machine: StateMachine, parts: Sequence[Any]) -> dict[str, Decisions]:
    """Neuron layer -> what it decided, over all parts of the data."""
    found: dict[str, Decisions] = {}
    for x in parts:
        exact = exact_run(machine, x)
        bounds = rounding_bounds(machine, x, exact)
        for name in machine.spiking:
            own = _decisions(exact, name, bounds[name])
            found[name] = found[name] + own if name in found else own
    return found


def _decisions(exact: Trace, name: str, bound: Tensor) -> Decisions:
    level, margin = torch.from_numpy(_level(exact, name)), torch.from_numpy(exact.margin[name])
    fired, bound = torch.from_numpy(exact.spikes[name] != 0), bound.double()
    below = float(level.masked_fill(fired, -torch.inf).max())
    above = float(level.masked_fill(~fired, torch.inf).min())
    up, down = (level + bound)[~fired], (level - bound)[fired]
    edges = int((margin.abs() <= bound).sum())
    return Decisions(below, above, up[up > below], down[down < above], float(margin.abs().min()), edges, level.numel())


def _level(exact: Trace, name: str) -> Any:
    """V - R, rounded as the machine rounds it: it fires where this is no less than the threshold, whichever that is."""
    return exact.potential[name] - exact.reset[name]
