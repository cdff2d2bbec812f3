"""Two runs of one network, side by side: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.rounding import Ties
from psu_deploy.verify.usefulness import OPEN_LIMIT

Rule = Literal["judged", "measured", "rounded", "exact"]
"""What a comparison holds: see `Comparison.rule`."""


@dataclass(frozen=True)
class LayerComparison:
    """One neuron layer, two runs.

    Attributes:
        name: of the layer.
        spikes_compared: decisions compared, T * B * neurons.
        spike_flips: decisions that differ, whatever the reason.
        firing_rate: share of decisions that are spikes, in the first run.
        max_potential_error: largest |V - V'|; None where a run cannot tell V.
        open: decisions that the rounding bound says nothing about, because it is infinite or as large as the margins.
        unbounded: decisions whose rounding bound is infinite.
    """

    name: str
    spikes_compared: int
    spike_flips: int
    firing_rate: float
    max_potential_error: float | None
    open: int = 0
    unbounded: int = 0

    @property
    def never_fired(self) -> bool:
        """Whether it was silent in both runs."""
        return self.firing_rate == 0 and self.spike_flips == 0

    @property
    def always_fired(self) -> bool:
        """Whether every decision of both runs was a spike."""
        return self.firing_rate == 1 and self.spike_flips == 0

    @property
    def proves_nothing(self) -> bool:
        """Whether the bounds leave too much open to speak of a proof."""
        return self.unbounded > 0 or self.open > OPEN_LIMIT * self.spikes_compared


class Answers(NamedTuple):
    """What the readout decided in the end: the largest output of the last step.

    Attributes:
        given: one per sample; 0 where there is one output only.
        changed: of them, how many differ between the two runs.
    """

    given: int = 0
    changed: int = 0


NO_ANSWERS = Answers()


@dataclass(frozen=True)
class Comparison:
    """Two runs of one network on the same input.

    Attributes:
        first: name of the first run, such as "module".
        second: name of the second run, such as "machine".
        layers: every neuron layer, in network order.
        disputed: decisions of either run that exact arithmetic would make differently.
        max_abs_error: largest difference of the outputs.
        failures: everything else that is wrong, in words: missing layers, NaN, outputs beyond the rounding bound.
        first_divergence: the earliest flip, if there is one.
        rule: "judged": only rounding errors may make a difference, and exact arithmetic says whether they did;
            "measured": the second run computes with rounded numbers, differences are counted and nothing is asked of
            them; "rounded": so it is with a machine that has the rounded weights of an artifact; "exact": the second
            run must repeat the first, number for number.
        answers: what the readout decided.
        open_outputs: share of the outputs that the rounding bound says nothing about.
        ties: layers that rank numbers, and found some too close to tell; one each.
    """

    first: str
    second: str
    layers: tuple[LayerComparison, ...]
    disputed: tuple[Decision, ...]
    max_abs_error: float
    failures: tuple[str, ...]
    first_divergence: Decision | None
    rule: Rule = "judged"
    answers: Answers = NO_ANSWERS
    open_outputs: float = 0.0
    ties: tuple[Ties, ...] = ()

    @property
    def spikes_compared(self) -> int:
        """Decisions compared."""
        return sum(layer.spikes_compared for layer in self.layers)

    @property
    def spike_flips(self) -> int:
        """Decisions that differ, whatever the reason."""
        return sum(layer.spike_flips for layer in self.layers)

    @property
    def measured(self) -> bool:
        """Whether differences are counted, and nothing is asked of them."""
        return self.rule in ("measured", "rounded")

    @property
    def unexplained(self) -> tuple[Decision, ...]:
        """Disputed decisions that rounding cannot explain."""
        return tuple(decision for decision in self.disputed if not decision.knife_edge)

    @property
    def unproven(self) -> tuple[str, ...]:
        """What the bounds leave open, in words: nothing where they prove what they should."""
        pair = f"{self.first} vs {self.second}"
        found = [f"{pair}: {_open_layer(layer)}" for layer in self.layers if layer.proves_nothing]
        if self.open_outputs > OPEN_LIMIT:
            found.append(f"{pair}: rounding may move {self.open_outputs:.1%} of the outputs by as much as they are")
        if found and self.ties:  # what comes behind an order that is open is open too
            return tuple(f"{pair}: {_tied(ties)}" for ties in self.ties)
        return tuple(found)

    @property
    def ok(self) -> bool:
        """No failure, and what the rule asks for."""
        repeated = self.rule != "exact" or (self.spike_flips == 0 and self.max_abs_error == 0)
        return not self.failures and not self.unexplained and repeated


def _open_layer(layer: LayerComparison) -> str:
    share = layer.open / max(1, layer.spikes_compared)
    return (
        f"in layer {layer.name!r} the rounding bound leaves {share:.1%} of the decisions open, at most {OPEN_LIMIT:.0%}"
        " may be: numbers that are summed for it are too large beside what they come to, or went through many layers of"
        " weights without a neuron between them"
    )


def _tied(ties: Ties) -> str:
    return (
        f"layer {ties.layer!r} ranks numbers, and {ties.open:,} places in their order are not certain, first at step "
        f"{ties.t}, sample {ties.sample}, where two differ by {ties.gap:.3g} and rounding moves that by up to "
        f"{ties.bound:.3g}; try input on which they differ by more, or return the numbers and rank what comes out"
    )
