"""Where in its gap a threshold is best: where rounding reaches it from the fewest decisions."""

from __future__ import annotations

import numpy as np

from psu_deploy.centring.decisions import Decisions


def best_in(gap: Decisions) -> tuple[float | None, str]:
    """A threshold inside a gap, as a float32 number, or why there is none.

    A threshold t is a knife edge for the decisions below it that rounding can lift to t, and for those above it that
    rounding can lower to t. Their number only changes where one of these reaches ends, so one look at every stretch
    between two ends finds the fewest. The middle of the gap is taken where it is as good as any, else the middle of the
    longest stretch that is.

    Args:
        gap: all decisions of the threshold.
    """
    if np.isinf(gap.above):
        return None, "it never fired on x, so nothing bounds its gap from above"
    if np.isinf(gap.below):
        return None, "every decision on x was a spike, so nothing bounds its gap from below"
    at = float(np.float32(_wanted(gap)))
    if not gap.below < at < gap.above:
        return None, "no float32 number lies there in its gap"
    return at, ""


def _wanted(gap: Decisions) -> float:
    up, down = np.sort(gap.up.numpy()), np.sort(gap.down.numpy())
    ends = np.unique(np.concatenate([[gap.below, gap.above], up[up < gap.above], down[down > gap.below]]))
    middle = gap.below / 2 + gap.above / 2
    places = np.append(ends[:-1] / 2 + ends[1:] / 2, middle)
    reached = len(up) - np.searchsorted(up, places, "left") + np.searchsorted(down, places, "right")
    fewest = reached == reached.min()
    if fewest[-1]:
        return middle
    longest = np.where(fewest[:-1], np.diff(ends), -1.0)
    return float(places[int(longest.argmax())])


def worse(old: Decisions, new: Decisions) -> str:
    """Why a threshold is better left where it was; "" = it is not."""
    if new.knife_edges > old.knife_edges:
        return (
            f"elsewhere in its gap it would be a knife edge for {new.knife_edges:,} decisions, not {old.knife_edges:,}"
        )
    if new.knife_edges == old.knife_edges and new.tightest <= old.tightest:
        return "it lies as far from all decisions as it can"
    return ""
