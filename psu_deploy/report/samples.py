"""What a few neurons did in one sample: the spikes of every run for a raster, and V, R and the threshold over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.report.margins import Closest
from psu_deploy.verify.certificate import Certificate
from psu_deploy.verify.witness import Seen

NEURONS = 32
"""Rows of a raster."""

STEPS = 160
"""Columns of a raster, and steps of a trace over time."""


@dataclass(frozen=True)
class Raster:
    """Spikes of some neurons of one layer in one sample.

    Attributes:
        layer: its name.
        sample: index in the batch.
        first_step: number of the first column.
        neurons: how many the layer has.
        rows: their places in the layer's features, laid out flat.
        spikes: name of the run -> (steps, rows), 0 or 1.
        flips: name of the run -> where it differs from the run it is held against.
    """

    layer: str
    sample: int
    first_step: int
    neurons: int
    rows: tuple[int, ...]
    spikes: dict[str, NDArray[np.bool_]]
    flips: dict[str, NDArray[np.bool_]]


class Line(NamedTuple):
    """One run of one neuron, (steps,); None where it cannot tell."""

    potential: NDArray[np.float64] | None
    level: NDArray[np.float64] | None
    spikes: NDArray[np.bool_]


@dataclass(frozen=True)
class Neuron:
    """One neuron in one sample.

    Attributes:
        layer: its layer's name.
        neuron: index in the layer's features.
        sample: index in the batch.
        t: the step that it is shown for.
        margin: at this step, in exact arithmetic.
        bound: how far rounding can move it.
        flipped: whether the runs differ there.
        first_step: number of the first of the steps below.
        runs: name -> what the run did.
        level: R + threshold in exact arithmetic: what V must reach.
        reset: R in exact arithmetic.
    """

    layer: str
    neuron: tuple[int, ...]
    sample: int
    t: int
    margin: float
    bound: float
    flipped: bool
    first_step: int
    runs: dict[str, Line]
    level: NDArray[np.float64]
    reset: NDArray[np.float64]

    @property
    def times(self) -> float:
        """The margin as a multiple of its bound."""
        return Closest(self.t, self.sample, self.neuron, self.margin, self.bound).times


def window(t: int, steps: int) -> slice:
    """At most `STEPS` steps with step t among them, a third of them before it."""
    start = max(0, min(t - STEPS // 3, steps - STEPS))
    return slice(start, min(steps, start + STEPS))


def rasters(machine: StateMachine, pairs: Sequence[Seen], start: int, sample: int, t: int) -> list[Raster]:
    """One per neuron layer."""
    runs = {name: trace for seen in pairs for name, trace in zip(seen.names, seen.traces, strict=True)}
    before = {seen.names[1]: seen.names[0] for seen in pairs}
    found = []
    for layer in machine.spiking:
        first = next(iter(runs.values())).spikes[layer]
        part = window(t, len(first))
        flat = {name: _flat(trace.spikes[layer][part, sample]) for name, trace in runs.items()}
        differ = {name: flat[name] != flat[other] for name, other in before.items()}
        rows = _chosen(np.any([spikes.any(0) for spikes in flat.values()], 0), _any(differ, flat))
        spikes = {name: values[:, rows] for name, values in flat.items()}
        flips = {name: values[:, rows] for name, values in differ.items()}
        neurons = next(iter(flat.values())).shape[1]
        found.append(Raster(layer, sample + start, part.start, neurons, tuple(rows.tolist()), spikes, flips))
    return found


def neuron_at(seen: Seen, judged: Certificate, layer: str, place: Closest, start: int) -> Neuron:
    """What both runs of a comparison did there, and what exact arithmetic says."""
    at = (slice(None), place.sample, *place.neuron)
    part = window(place.t, len(seen.traces[0].spikes[layer]))
    exact = judged.exact

    def line(trace: Trace) -> Line:
        potential, margin = _row(trace.potential, layer, at, part), _row(trace.margin, layer, at, part)
        level = None if potential is None or margin is None else potential - margin
        return Line(potential, level, trace.spikes[layer][at][part] != 0)

    differ = bool(np.any(seen.traces[0].spikes[layer][at][place.t] != seen.traces[1].spikes[layer][at][place.t]))
    level = (exact.potential[layer][at] - exact.margin[layer][at])[part].numpy()
    return Neuron(
        layer, place.neuron, place.sample + start, place.t, place.margin, place.bound, differ, part.start,
        {name: line(trace) for name, trace in zip(seen.names, seen.traces, strict=True)},
        level, exact.reset[layer][at][part].numpy(),
    )  # fmt: skip


def _row(values: Mapping[str, Any], layer: str, at: tuple[Any, ...], part: slice) -> NDArray[np.float64] | None:
    return np.array(values[layer][at][part], np.float64) if layer in values else None


def _flat(spikes: Any) -> NDArray[np.bool_]:
    fired: NDArray[np.bool_] = np.asarray(spikes).reshape(len(spikes), -1) != 0
    return fired


def _any(differ: Mapping[str, NDArray[np.bool_]], flat: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which neurons differ anywhere."""
    nothing = np.zeros(next(iter(flat.values())).shape[1], bool)
    return np.asarray(np.any([nothing, *(values.any(0) for values in differ.values())], 0))


def _chosen(fired: NDArray[np.bool_], differ: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places of at most `NEURONS`: those that differ, then those that fired, then the others, evenly spread."""
    chosen: list[int] = []
    for wanted in (differ, fired & ~differ, ~fired & ~differ):
        places = np.flatnonzero(wanted)
        room = min(NEURONS - len(chosen), len(places))
        chosen += places[np.linspace(0, len(places) - 1, room).round().astype(int)].tolist() if room else []
    return np.array(sorted(chosen), np.int64)
