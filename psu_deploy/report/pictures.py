"""All pictures of a page: which layers and runs they show where not everything fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from psu_deploy.report.collected import Collected
from psu_deploy.report.differences import Counts
from psu_deploy.report.drift import Drift
from psu_deploy.report.figures.drift import draw_drift
from psu_deploy.report.figures.margins import draw_margins
from psu_deploy.report.figures.potential import draw_potential, has_reset
from psu_deploy.report.figures.raster import draw_raster
from psu_deploy.report.figures.spread import draw_spread
from psu_deploy.report.samples import Neuron, Raster

_RASTERS, _HISTOGRAMS, _DRIFTS = 3, 6, 4
"""Layers that are drawn."""

_EACH = ("first run", "second run")


class Panel(NamedTuple):
    """A picture.

    Attributes:
        svg: drawn here; nothing of a caller's is in it.
        run: whose it is, or "".
    """

    svg: str
    run: str = ""


class Rastered(NamedTuple):
    """One layer, run by run."""

    raster: Raster
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Pictures:
    """In the order of the page; empty where there is nothing to draw.

    Attributes:
        rasters: layers, run by run.
        neurons: neurons over time.
        runs: of these neurons, first and second; where they are others for each, that is said.
        reset: whether any of them has a reset.
        margins: layer -> histogram.
        drift: (what, picture).
        drifting: the runs that are drawn there.
        spread: of the differences; None = there are none.
        left_out: neuron layers without a raster, without a histogram.
    """

    rasters: tuple[Rastered, ...]
    neurons: tuple[tuple[Neuron, str], ...]
    runs: tuple[str, ...]
    reset: bool
    margins: tuple[tuple[str, str], ...]
    drift: tuple[tuple[str, str], ...]
    drifting: tuple[str, ...]
    spread: str | None
    left_out: tuple[int, int]


def pictures(collected: Collected) -> Pictures:
    """Draw everything."""
    rasters = _rasters(collected)
    histograms = _tightest(collected)
    drifts, drifting = _drifts(collected)
    neurons = collected.neurons
    return Pictures(
        tuple(
            Rastered(one, tuple(Panel(draw_raster(f"r{i}n{j}", one, run), run) for j, run in enumerate(one.spikes)))
            for i, one in enumerate(rasters)
        ),
        tuple((one, draw_potential(f"v{i}", one)) for i, one in enumerate(neurons)),
        _runs(neurons),
        has_reset(neurons),
        tuple((name, draw_margins(f"m{i}", collected.margins[name])) for i, name in enumerate(histograms)),
        tuple((what, draw_drift(f"d{i}", drift, drifting)) for i, (what, drift) in enumerate(drifts)),
        tuple(drifting),
        _spread(collected),
        (len(collected.rasters) - len(rasters), len(collected.margins) - len(histograms)),
    )


def _runs(neurons: list[Neuron]) -> tuple[str, ...]:
    found = {tuple(neuron.runs) for neuron in neurons}
    return found.pop() if len(found) == 1 else _EACH


def _rasters(collected: Collected) -> list[Raster]:
    """The layers that differ, the first and the last, in network order; none in which nothing fired."""
    found = [one for one in collected.rasters if any(spikes.any() for spikes in one.spikes.values())]
    differ = [i for i, one in enumerate(found) if any(flips.any() for flips in one.flips.values())]
    wanted = [*differ, 0, len(found) - 1, *range(len(found))]
    chosen = list(dict.fromkeys(i for i in wanted if 0 <= i < len(found)))[:_RASTERS]
    return [found[i] for i in sorted(chosen)]


def _tightest(collected: Collected) -> list[str]:
    """Layers with the tightest margins, in network order."""
    times = {name: one.closest.times for name, one in collected.margins.items() if one.closest is not None}
    chosen = set(sorted(times, key=lambda name: times[name])[:_HISTOGRAMS])
    return [name for name in times if name in chosen]


def _drifts(collected: Collected) -> tuple[list[tuple[str, Drift]], list[str]]:
    """The layers nearest to their bounds, and the outputs, unless nothing is rounded; and the runs in them."""
    drifts = collected.drifts.layers
    nearest = sorted(drifts, key=lambda name: -drifts[name].share)[:_DRIFTS]
    layers = [(f"V of layer {name}", drift) for name, drift in drifts.items() if name in nearest]
    outputs = [(f"output {name}", drift) for name, drift in collected.drifts.outputs.items()]
    shown = [(what, drift) for what, drift in (*layers, *outputs[:_DRIFTS]) if drift.inexact]
    return shown, list(dict.fromkeys(run for _, drift in shown for run in drift.errors))[:3]


def _spread(collected: Collected) -> str | None:
    counts: Counts | None = None if collected.first is None else collected.first.flips
    return None if counts is None or len(next(iter(counts.values()))) < 2 else draw_spread("s", counts)
