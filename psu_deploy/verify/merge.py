"""Comparisons of parts of a batch, put together: samples know nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from psu_deploy.verify.certificate import Decision
from psu_deploy.verify.comparison import Answers, Comparison, LayerComparison
from psu_deploy.verify.rounding import Ties


def merge(parts: Sequence[tuple[int, Comparison]]) -> Comparison:
    """One comparison of the whole batch.

    Args:
        parts: (number of the part's first sample, comparison) of the same two runs, in order.
    """
    comparisons = [comparison for _, comparison in parts]
    first = comparisons[0]
    layers = list(zip(*(comparison.layers for comparison in comparisons), strict=True)) if _complete(parts) else []
    depth = {layer.name: index for index, layer in enumerate(first.layers)}
    divergences = [_moved(c.first_divergence, start) for start, c in parts if c.first_divergence is not None]
    return Comparison(
        first.first,
        first.second,
        tuple(_layer(layer) for layer in layers),
        tuple(_moved(decision, start) for start, comparison in parts for decision in comparison.disputed),
        float(np.max([comparison.max_abs_error for comparison in comparisons])),  # NaN wins
        tuple(dict.fromkeys(failure for comparison in comparisons for failure in comparison.failures)),
        min(divergences, key=lambda d: (d.t, depth.get(d.layer, 0), d.sample), default=None),
        first.rule,
        Answers(sum(c.answers.given for c in comparisons), sum(c.answers.changed for c in comparisons)),
        max(c.open_outputs for c in comparisons),
        _ties(parts),
    )


def _complete(parts: Sequence[tuple[int, Comparison]]) -> bool:
    """A run with holes has no layers to compare."""
    return all(comparison.layers for _, comparison in parts)


def _layer(parts: Sequence[LayerComparison]) -> LayerComparison:
    compared = sum(part.spikes_compared for part in parts)
    errors = [part.max_potential_error for part in parts if part.max_potential_error is not None]
    return LayerComparison(
        parts[0].name,
        compared,
        sum(part.spike_flips for part in parts),
        sum(part.firing_rate * part.spikes_compared for part in parts) / compared,
        max(errors, default=None),
        sum(part.open for part in parts),
        sum(part.unbounded for part in parts),
    )


def _ties(parts: Sequence[tuple[int, Comparison]]) -> tuple[Ties, ...]:
    """One per layer; the first of them stays the first."""
    found: dict[str, Ties] = {}
    for one in (ties._replace(sample=ties.sample + start) for start, c in parts for ties in c.ties):
        before = found.get(one.layer)
        first = one if before is None else min(before, one, key=lambda ties: (ties.t, ties.sample))
        found[one.layer] = first._replace(open=one.open + (0 if before is None else before.open))
    return tuple(found.values())


def _moved(decision: Decision, start: int) -> Decision:
    return decision._replace(sample=decision.sample + start)
