"""What is kept of the runs of one verification while they are in memory: small, whatever the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psu_deploy.machine import StateMachine
from psu_deploy.report.certified import margins_of
from psu_deploy.report.differences import Differences
from psu_deploy.report.drift import Drifts
from psu_deploy.report.margins import Closest, Margins, closest
from psu_deploy.report.samples import Neuron, Raster, neuron_at, rasters
from psu_deploy.runtime import Artifact
from psu_deploy.verify import Certificate, certify
from psu_deploy.verify.witness import Seen

_NEURONS = 3
"""Neurons whose potential is shown over time: one that differs, and those whose margins are the tightest."""


@dataclass
class Collected:
    """Of one verification, part of the batch by part.

    Attributes:
        machine: the network.
        x: its input, (T, B, *features).
        artifact: what was held against it; None = another machine.
        differences: of every comparison.
        margins: neuron layer -> margins of its decisions in one run.
        judged: name of this run.
        drifts: how far V and the outputs are from exact arithmetic.
        rasters: one per neuron layer.
        parting: the neuron that differs first, over time; None = none does.
        tightest: those that are nearest to their bounds, over time.
    """

    machine: StateMachine
    x: Any
    artifact: Artifact | None
    differences: list[Differences]
    margins: dict[str, Margins] = field(default_factory=dict)
    judged: str = ""
    drifts: Drifts = field(default_factory=Drifts)
    rasters: list[Raster] = field(default_factory=list)
    parting: Neuron | None = None
    tightest: list[Neuron] = field(default_factory=list)

    @property
    def neurons(self) -> list[Neuron]:
        """Those that are shown over time."""
        if self.parting is None:
            return self.tightest
        same = (self.parting.layer, self.parting.neuron)
        return [self.parting, *(one for one in self.tightest if (one.layer, one.neuron) != same)][:_NEURONS]

    @property
    def first(self) -> Differences | None:
        """The comparison with the earliest difference that should not be; where there is none, that is measured."""
        found = [one for one in self.differences if one.first is not None]
        return min(found, key=_when, default=None)

    def see(self, start: int, pairs: Sequence[Seen]) -> None:
        """Keep what a page shows of the samples from `start` on: all comparisons of them."""
        seen, judged = self._judged(start, pairs)
        self.judged = seen.names[0]
        for name, (margin, bound) in margins_of(judged).items():
            self.margins.setdefault(name, Margins()).add(start, margin, bound)
        before = None if self.first is None else _when(self.first)
        for pair in pairs:
            self._differences_of(pair).add(self.machine, start, pair)
        for index, pair in enumerate(pairs):
            known = frozenset(name for other in pairs[:index] if other.certificates for name in other.names)
            self.drifts.add(self.machine, pair, known)
        moved = self.first is not None and _when(self.first) != before
        if moved or not self.rasters:
            self._keep_rasters(start, pairs)
        self._keep_neurons(start, seen, judged)
        if moved:
            self._keep_first(start, pairs, judged)

    def _judged(self, start: int, pairs: Sequence[Seen]) -> tuple[Seen, Certificate]:
        """The last comparison that was judged, and its first run's certificate; where none was, that of the network."""
        for seen in reversed(pairs):
            if seen.certificates:
                return seen, seen.certificates[0]
        first = pairs[0].traces[0]
        x = self.x[:, start : start + next(iter(first.outputs.values())).shape[1]]
        return pairs[0], certify(self.machine, x, first, precision=str(x.dtype))

    def _differences_of(self, seen: Seen) -> Differences:
        return next(one for one in self.differences if one.names == seen.names)

    def _keep_rasters(self, start: int, pairs: Sequence[Seen]) -> None:
        """Of the sample in which the runs part first; of the first one where they do not."""
        _, t, sample = (False, 0, start) if self.first is None else _when(self.first)
        self.rasters = rasters(self.machine, pairs, start, sample - start, t)

    def _keep_neurons(self, start: int, seen: Seen, judged: Certificate) -> None:
        """Those that are nearest to their bounds."""
        found = [
            neuron_at(seen, judged, layer, place, start)
            for layer, (margin, bound) in margins_of(judged).items()
            for place in closest(margin, bound, _NEURONS)
        ]
        nearest: dict[tuple[Any, ...], Neuron] = {}
        for one in sorted((*self.tightest, *found), key=lambda one: one.times):
            nearest.setdefault((one.layer, one.neuron), one)
        self.tightest = list(nearest.values())[:_NEURONS]

    def _keep_first(self, start: int, pairs: Sequence[Seen], judged: Certificate) -> None:
        """The one that differs first."""
        assert self.first is not None
        first = self.first.first
        assert first is not None
        seen = next(pair for pair in pairs if pair.names == self.first.names)
        certificate = seen.certificates[0] if seen.certificates else judged
        margin, bound = margins_of(certificate)[first.layer]
        at = (first.t, first.sample - start, *first.neuron)
        place = Closest(first.t, first.sample - start, first.neuron, float(margin[at]), float(bound[at]))
        self.parting = neuron_at(seen, certificate, first.layer, place, start)


def _when(differences: Differences) -> tuple[bool, int, int]:
    assert differences.first is not None
    return differences.measured, differences.first.t, differences.first.sample
