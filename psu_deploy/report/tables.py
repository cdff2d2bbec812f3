"""What the page says in tables: plain data, row by row."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from psu_deploy.machine.ops import Neuron
from psu_deploy.report.collected import Collected
from psu_deploy.report.diagram import described, shape_of
from psu_deploy.report.differences import First
from psu_deploy.report.margins import Margins
from psu_deploy.report.operations import Operations, operations
from psu_deploy.report.words import called
from psu_deploy.verify import Comparison, EquivalenceReport

_BYTES = 4
"""State is counted as float32."""


class LayerRow(NamedTuple):
    """One neuron layer.

    Attributes:
        name: of the layer.
        shape: of its features.
        kind: of neuron, and its threshold.
        rate: share of its decisions that are spikes.
        decisions: compared, in one comparison.
        flips: decisions that differ, over all comparisons in which they should not.
        rounded: decisions that rounding changed on purpose; None = nothing was rounded.
        margins: of its decisions; None = there are none.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    rate: float
    decisions: int
    flips: int
    rounded: int | None
    margins: Margins | None


class Divergence(NamedTuple):
    """The first decision that differs, and what came of it.

    Attributes:
        names: of the two runs.
        first: the decision.
        threshold: of its layer.
        total: decisions that differ between these runs.
        own: of them, those that no earlier difference explains; None = the runs were not judged.
    """

    names: tuple[str, str]
    first: First
    threshold: float
    total: int
    own: int | None

    @property
    def knife_edge(self) -> bool | None:
        """Whether rounding alone can turn it; None = nobody judged."""
        if self.first.margin is None or self.first.bound is None:
            return None
        return abs(self.first.margin) <= self.first.bound


class Rounding(NamedTuple):
    """What computing with rounded numbers changed.

    Attributes:
        names: of the two runs.
        what: is rounded.
        changed: decisions.
        compared: decisions.
        answers: of the readout that changed, and of how many.
    """

    names: tuple[str, str]
    what: str
    changed: int
    compared: int
    answers: tuple[int, int]


def glance(collected: Collected) -> list[tuple[str, str]]:
    """What a network is, in a few facts."""
    machine = collected.machine
    state = sum(prod(spec.shape) for spec in machine.state_spec.values() if spec.batched) * _BYTES
    outputs = ", ".join(f"{name} {shape_of(shape)}" for name, shape in machine.outputs.items())
    late = (
        f"{machine.latency} step{'s' if machine.latency > 1 else ''}" if machine.latency else "none: it answers at once"
    )
    return [
        ("Input", f"{shape_of(machine.input_shape)}{', one image shown at every step' * machine.static_input}"),
        ("Output" if len(machine.outputs) == 1 else "Outputs", outputs),
        ("Defined for", "any number of steps" if machine.max_steps is None else f"{machine.max_steps:,} steps"),
        ("Latency", late),
        ("Neurons", f"{sum(prod(machine.shapes[name]) for name in machine.spiking):,}"),
        ("Learned numbers", f"{sum(node.layer.parameters for node in machine.nodes):,}"),
        ("State per sample", f"{state:,} bytes"),
    ]


def layers(report: EquivalenceReport, collected: Collected) -> list[LayerRow]:
    """Every neuron layer, in network order."""
    if not report.comparisons or not report.comparisons[0].layers:
        return []
    machine = collected.machine
    kinds = {node.name: node.layer for node in machine.nodes if isinstance(node.layer, Neuron)}
    asked = [comparison for comparison in report.comparisons if not comparison.measured]
    rounded = [comparison for comparison in report.comparisons if comparison.measured]
    return [
        LayerRow(
            one.name,
            machine.shapes[one.name],
            described(kinds[one.name]).removeprefix("neuron: "),
            one.firing_rate,
            one.spikes_compared,
            _flips(asked, one.name),
            _flips(rounded, one.name) if rounded else None,
            collected.margins.get(one.name),
        )
        for one in report.comparisons[0].layers
    ]


def first_divergence(collected: Collected) -> Divergence | None:
    """Of the comparison in which the runs part first."""
    found = collected.first
    if found is None or found.first is None:
        return None
    (layer,) = (node.layer for node in collected.machine.nodes if node.name == found.first.layer)
    threshold = float(getattr(layer, "threshold", 0.0))
    return Divergence(found.names, found.first, threshold, found.total, found.total_own)


def rounding(report: EquivalenceReport) -> list[Rounding]:
    """Every comparison in which differences are measured."""
    return [
        Rounding(
            (called(one.first), called(one.second)),
            "the weights" if one.rule == "rounded" else "all numbers to integers",
            one.spike_flips,
            one.spikes_compared,
            (one.answers.changed, one.answers.given),
        )
        for one in report.comparisons
        if one.measured
    ]


def operations_of(collected: Collected) -> list[Operations]:
    """Every layer with weights, and their sum last."""
    found = operations(collected.machine, collected.x)
    total = Operations("total", sum(one.dense for one in found), sum(one.events for one in found))
    return [*found, total] if found else []


def _flips(comparisons: list[Comparison], name: str) -> int:
    return sum(layer.spike_flips for one in comparisons for layer in one.layers if layer.name == name)
