"""The neurons in whole numbers: int64 for products, states within 24 bits, features with the channel last.

Written for itself, so that the other implementation of the same rules (`fixed_point.py`, outside this folder) has
something to be held against. A layer has a shape, (n,) or (W, H, C); a number per channel has (C,) and broadcasts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LIMIT = (1 << 23) - 1


def saturate(x: Any) -> Any:
    """Hold x within -LIMIT..LIMIT."""
    return np.minimum(np.maximum(x, -LIMIT), LIMIT)


def scale(x: Any, factor: Any, shift: Any = 12) -> Any:
    """`x*factor / 2^shift` without its fraction.

    A shift rounds down, so a negative product is first lifted by all but one of the units that are shifted away.
    """
    product = x * factor
    lift = (product >> 63) & ((np.int64(1) << shift) - 1)
    return (product + lift) >> shift


class Traces:
    """`y[m] = decays[m]*y[m] + gains[m]*x`, each saturated; gives their saturated sum with the bias.

    Args:
        numbers: "decays" (r,), "gains" (r,), "bias" (C,).
        shape: of the layer.
    """

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.factors = list(zip(numbers["decays"].tolist(), numbers["gains"].tolist(), strict=True))
        self.bias = numbers["bias"]
        self.shape = shape
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.traces = [np.zeros(self.shape, np.int64) for _ in self.factors]

    def advance(self, x: Any, t: int) -> Any:
        """One step."""
        total = self.bias
        for m, (decay, gain) in enumerate(self.factors):
            self.traces[m] = saturate(scale(self.traces[m], decay) + scale(x, gain))
            total = total + self.traces[m]
        return saturate(total)


class Sums:
    """Every input is added, weighted, to the sums of this step and the next k - 1, which wait in a ring of k places.

    Place `t % k` is the sum of step t; it is given out, with the bias, and emptied for step t + k.

    Args:
        numbers: "columns" (rows, k), "bias" (rows, C); one row for all steps, or one per step.
        shape: of the layer.
    """

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.columns, self.bias = numbers["columns"], numbers["bias"]
        self.shape = (self.columns.shape[1], *shape)
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.ring = np.zeros(self.shape, np.int64)

    def advance(self, x: Any, t: int) -> Any:
        """One step."""
        row = t % len(self.columns)
        now = t % len(self.ring)
        weights = np.roll(self.columns[row], now)
        (busy,) = np.nonzero(weights)
        if len(busy):
            # A matrix adds nothing before this step: half of the places, on average, need not be touched.
            places = slice(busy[0], busy[-1] + 1)
            part = self.ring[places]
            part += scale(x, weights[places].reshape(-1, *[1] * x.ndim))
            np.clip(part, -LIMIT, LIMIT, out=part)
        result = saturate(self.ring[now] + self.bias[row])
        self.ring[now] = 0
        return result


class Table:
    """`S' = knots`, interpolated, at `coefficient*E >> shift`; the 16384 values it can take are made beforehand."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.coefficient, self.shift = numbers["coefficient"], numbers["shift"]
        knots = numbers["knots"]
        pieces = [knots[:-1] + (np.diff(knots) * place // 256) for place in range(256)]
        self.values = np.stack(pieces, axis=1).reshape(-1)

    def __call__(self, value: Any) -> Any:
        """S' in 1/4096."""
        argument = (value * self.coefficient) >> self.shift
        return self.values[np.minimum(np.maximum(argument, -8192), 8191) + 8192]


class Levels:
    """`S' = values[how many thresholds E has reached]`."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.thresholds, self.values = numbers["thresholds"], numbers["values"]

    def __call__(self, value: Any) -> Any:
        """S' in 1/4096."""
        reached = np.zeros(value.shape, np.int64)
        for threshold in self.thresholds:
            reached += value >= threshold
        return self.values[reached]


class Raw:
    """`S' = E`."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        pass

    def __call__(self, value: Any) -> Any:
        """E itself."""
        return value


OPERATORS: dict[str, Any] = {"Traces": Traces, "Sums": Sums}
ESTIMATORS: dict[str, Any] = {"Table": Table, "Levels": Levels, "Raw": Raw}


def operator(numbers: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """The operator that a group describes."""
    return OPERATORS[numbers["kind"]](numbers, shape)
