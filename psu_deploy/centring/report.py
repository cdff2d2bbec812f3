"""What centring did: every threshold, its tightest decision and its knife edges, before and after."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.text import columns

_TITLES = ("layer", "V_th", "centred", "tightest", "centred", "knife edges", "centred", "decisions")


@dataclass(frozen=True)
class CentredLayer:
    """One neuron layer.

    Attributes:
        name: of the layer.
        threshold: V_th before.
        centred: V_th now; the same where it was not moved.
        tightest: smallest |margin| of all decisions before, in exact arithmetic.
        tightest_centred: the same now.
        knife_edges: decisions whose |margin| was at most their float32 rounding bound.
        knife_edges_centred: the same now.
        decisions: how many there are, over all steps, samples and neurons.
        reason: why the threshold was not moved; "" = it was.
    """

    name: str
    threshold: float
    centred: float
    tightest: float
    tightest_centred: float
    knife_edges: int
    knife_edges_centred: int
    decisions: int
    reason: str = ""


@dataclass(frozen=True)
class CentringReport:
    """What `centre_thresholds` moved, one row per neuron layer. Printed, it is a table.

    Attributes:
        layers: in network order.
        turned: decisions that the model, run in its own precision, made otherwise than exact arithmetic, before.
        turned_centred: the same now.
        changed: decisions on x that are others now in the model's own precision, each turned before and not now.
        changed_outputs: values of outputs that are others now in it.
    """

    layers: tuple[CentredLayer, ...]
    turned: int = 0
    turned_centred: int = 0
    changed: int = 0
    changed_outputs: int = 0

    @property
    def knife_edges(self) -> int:
        """Decisions that rounding alone could turn, before."""
        return sum(layer.knife_edges for layer in self.layers)

    @property
    def knife_edges_centred(self) -> int:
        """Decisions that rounding alone can turn now."""
        return sum(layer.knife_edges_centred for layer in self.layers)

    @property
    def moved(self) -> int:
        """Layers whose threshold is another now."""
        return sum(not layer.reason for layer in self.layers)

    def __str__(self) -> str:
        rows = [_TITLES, *map(_row, self.layers)]
        lines = columns(rows, left=1)
        why = ["", *(f"  {layer.reason}" if layer.reason else "" for layer in self.layers)]
        decisions = sum(layer.decisions for layer in self.layers)
        title = (
            f"{self.moved} of {len(self.layers)} threshold(s) moved; knife edges {self.knife_edges:,} -> "
            f"{self.knife_edges_centred:,} of {decisions:,} decisions; {self._changes()}"
        )
        table = (f"  {line}{reason}" for line, reason in zip(lines, why, strict=True))
        return "\n".join([title, *table, *self._turned()])

    def _changes(self) -> str:
        exact = "in exact arithmetic no spike and no output on x is another"
        if not self.changed and not self.changed_outputs:
            return f"{exact}, nor in its own precision"
        where = ", where rounding had turned a decision" if self.changed else ""
        return (
            f"{exact}, in its own precision {self.changed:,} spike(s) and {self.changed_outputs:,} value(s) of outputs "
            f"are{where}"
        )

    def _turned(self) -> list[str]:
        if not self.turned:
            return []
        now = f"{self.turned_centred:,} now"
        return [f"in its own precision the model made {self.turned:,} decision(s) unlike exact arithmetic, {now}"]


def _row(layer: CentredLayer) -> tuple[str, ...]:
    thresholds = (f"{value:.9g}" for value in (layer.threshold, layer.centred))
    tightest = (f"{value:.2e}" for value in (layer.tightest, layer.tightest_centred))
    counts = (f"{value:,}" for value in (layer.knife_edges, layer.knife_edges_centred, layer.decisions))
    return layer.name, *thresholds, *tightest, *counts
