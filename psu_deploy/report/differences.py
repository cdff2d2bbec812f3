"""Where two runs differ: how many decisions per layer and step, and what came of the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops import LIFNeuron
from psu_deploy.verify.certificate import Certificate
from psu_deploy.verify.witness import Seen

Counts = dict[str, NDArray[np.int64]]
"""Neuron layer -> how many decisions of every step, (T,)."""


class Side(NamedTuple):
    """What one run had at a decision; None where it cannot tell."""

    name: str
    spike: bool
    potential: float | None
    reset: float | None
    margin: float | None


class First(NamedTuple):
    """The earliest decision that differs.

    Attributes:
        layer: name of the neuron layer.
        t: time step, from 0.
        sample: index in the batch.
        neuron: index in the layer's features.
        margin: V - R - threshold in exact arithmetic, given what the first run fired before; None = nobody judged.
        bound: how far rounding can move it; None = nobody judged.
        sides: what either run had there.
        follow: decisions of the same sample that differ at this step or later, where the spikes of the layer reach, and
            that exact arithmetic, where it judged, finds right given what was fired before; per layer.
        beside: other decisions of the same sample that differ.
    """

    layer: str
    t: int
    sample: int
    neuron: tuple[int, ...]
    margin: float | None
    bound: float | None
    sides: tuple[Side, Side]
    follow: dict[str, int]
    beside: int


@dataclass
class Differences:
    """Between two runs, part of a batch by part.

    Attributes:
        names: of the two runs.
        flips: decisions that differ.
        own: of them, those that exact arithmetic, given what the run itself fired before, would make differently in
            either run. The others follow from earlier ones. None = the runs were not judged.
        first: the earliest.
        measured: whether nothing is asked of the second run.
    """

    names: tuple[str, str]
    measured: bool = False
    flips: Counts = field(default_factory=dict)
    own: Counts | None = None
    first: First | None = None

    @property
    def total(self) -> int:
        """Decisions that differ."""
        return int(sum(rows.sum() for rows in self.flips.values()))

    @property
    def total_own(self) -> int | None:
        """Decisions that differ and do not follow from others; None = the runs were not judged."""
        return None if self.own is None else int(sum(rows.sum() for rows in self.own.values()))

    def add(self, machine: StateMachine, start: int, seen: Seen) -> None:
        """Count a part: samples from `start` on."""
        self.measured = seen.rule in ("measured", "rounded")
        differ = {name: _rows(seen.traces, name) for name in machine.spiking}
        for name, rows in differ.items():
            self.flips[name] = self.flips.get(name, 0) + rows.reshape(len(rows), -1).sum(1)
        if seen.certificates:
            self.own = _added(self.own, _own(seen.certificates, differ))
        found = _first_place(differ)
        if found is not None and (self.first is None or found[:2] < self._place(machine)):
            self.first = _first(machine, start, seen, differ, found)

    def _place(self, machine: StateMachine) -> tuple[int, int]:
        assert self.first is not None
        return self.first.t, machine.spiking.index(self.first.layer)


def _rows(traces: tuple[Trace, Trace], name: str) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = traces[0].spikes[name] != traces[1].spikes[name]
    return differ


def _own(certificates: tuple[Certificate, ...], differ: Mapping[str, NDArray[np.bool_]]) -> Counts:
    counts = {name: np.zeros(len(rows), np.int64) for name, rows in differ.items()}
    disputed = {decision[:4] for certificate in certificates for decision in certificate.disputed}
    for layer, t, sample, neuron in disputed:
        counts[layer][t] += differ[layer][(t, sample, *neuron)]
    return counts


def _added(before: Counts | None, more: Counts) -> Counts:
    return more if before is None else {name: rows + before[name] for name, rows in more.items()}


def _first_place(differ: Mapping[str, NDArray[np.bool_]]) -> tuple[int, int, tuple[int, ...]] | None:
    """(step, depth of the layer, (sample, *neuron)) of the earliest."""
    found = []
    for depth, rows in enumerate(differ.values()):
        steps = np.flatnonzero(rows.reshape(len(rows), -1).any(1))
        if len(steps):
            t = int(steps[0])
            found.append((t, depth, tuple(int(i) for i in np.argwhere(rows[t])[0])))
    return min(found, default=None)


def _first(
    machine: StateMachine,
    start: int,
    seen: Seen,
    differ: Mapping[str, NDArray[np.bool_]],
    place: tuple[int, int, tuple[int, ...]],
) -> First:
    t, depth, (sample, *neuron) = place
    layer, at = machine.spiking[depth], (t, sample, *neuron)
    margin = bound = None
    if seen.certificates:
        judged = seen.certificates[0]
        margin, bound = float(judged.exact.margin[layer][at]), float(judged.bounds.margin[layer][at])
    sides = [_side(name, trace, layer, at) for name, trace in zip(seen.names, seen.traces, strict=True)]
    follow = _follow(machine, layer, t, {name: rows[:, sample] for name, rows in differ.items()}, _own_of(seen, sample))
    same = sum(int(rows[:, sample].sum()) for rows in differ.values())
    beside = same - 1 - sum(follow.values())
    return First(
        layer, t, sample + start, tuple(neuron), margin, bound, (sides[0], sides[1]), follow, beside
    )  # fmt: skip


def _own_of(seen: Seen, sample: int) -> set[tuple[str, int, tuple[int, ...]]]:
    """Decisions of one sample that no earlier ones explain, (layer, t, neuron)."""
    disputed = (decision for certificate in seen.certificates for decision in certificate.disputed)
    return {(one.layer, one.t, one.neuron) for one in disputed if one.sample == sample}


def _follow(
    machine: StateMachine,
    layer: str,
    t: int,
    differ: Mapping[str, NDArray[np.bool_]],
    own: set[tuple[str, int, tuple[int, ...]]],
) -> dict[str, int]:
    found = {}
    for name in reached(machine, layer):
        later = t + (name == layer)
        itself = sum(1 for one, step, neuron in own if one == name and step >= later and differ[name][step, *neuron])
        found[name] = int(differ[name][later:].sum()) - itself
    return found


def _side(name: str, trace: Trace, layer: str, at: tuple[int, ...]) -> Side:
    def number(values: Mapping[str, Any]) -> float | None:
        return float(values[layer][at]) if layer in values else None

    numbers = (number(values) for values in (trace.potential, trace.reset, trace.margin))
    return Side(name, bool(trace.spikes[layer][at]), *numbers)


def reached(machine: StateMachine, layer: str) -> list[str]:
    """Neuron layers that see what a layer emits, at once or later, in network order."""
    found = {layer}
    for node in machine.nodes:
        if not found.isdisjoint(node.inputs):
            found.add(node.name)
    feeds_back = any(node.name == layer and isinstance(node.layer, LIFNeuron) for node in machine.nodes)
    return [name for name in machine.spiking if name in found and (name != layer or feeds_back)]
