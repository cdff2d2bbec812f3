"""What the floating-point neurons are made of: operators and estimators in float64, features with the channel last."""

from __future__ import annotations

from typing import Any

import numpy as np


class Identity:
    """`y = x`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        pass

    def clear(self) -> None:
        """Nothing to forget."""

    def advance(self, x: Any, t: int) -> Any:
        """One step."""
        return x


class Traces:
    """`y[m] = decays[m]*y[m] + gains[m]*x; y = sum + bias`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        terms = (-1, *[1] * len(shape))
        self.decays = np.array(numbers["decays"], float).reshape(terms)
        self.gains = np.array(numbers["gains"], float).reshape(terms)
        self.bias = np.array(numbers["bias"], float)
        self.shape = (len(self.decays), *shape)
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.traces = np.zeros(self.shape)

    def advance(self, x: Any, t: int) -> Any:
        """One step."""
        self.traces = self.decays * self.traces + self.gains * x
        return self.traces.sum(0) + self.bias


class Sums:
    """`sums = pending, then 0; sums[l] += columns[t, l]*x; y = sums[0] + bias[t]; pending = sums[1:]`."""

    def __init__(self, numbers: dict[str, Any], shape: tuple[int, ...]) -> None:
        self.columns, self.bias = np.array(numbers["columns"], float), np.array(numbers["bias"], float)
        self.shape = (self.columns.shape[1], *shape)
        self.clear()

    def clear(self) -> None:
        """Forget."""
        self.ring = np.zeros(self.shape)

    def advance(self, x: Any, t: int) -> Any:
        """One step; place `t % k` of the ring is the sum of step t."""
        row, now = t % len(self.columns), t % len(self.ring)
        self.ring += np.roll(self.columns[row], now).reshape(-1, *[1] * x.ndim) * x
        result = self.ring[now] + self.bias[row]
        self.ring[now] = 0.0
        return result


class Sigmoid:
    """`S' = 1 / (1 + exp(-E))`."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        pass

    def __call__(self, value: Any) -> Any:
        """S'."""
        small = np.exp(-np.abs(value))  # of the number that cannot overflow
        return np.where(value >= 0, 1.0, small) / (1.0 + small)


class Table:
    """The sigmoid in 64 straight pieces from -8 to 8, its argument rounded down to 1/1024, its value to 1/4096."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        knots = np.rint(4096 / (1 + np.exp(8 - np.arange(65) / 4))).astype(np.int64)
        pieces = [knots[:-1] + np.diff(knots) * place // 256 for place in range(256)]
        self.values = np.stack(pieces, axis=1).reshape(-1) / 4096

    def __call__(self, value: Any) -> Any:
        """S'."""
        argument = np.clip(np.floor(value * 1024), -8192, 8191)
        return self.values[argument.astype(np.int64) + 8192]


class Levels:
    """`S' = offset + height * how many thresholds E has reached`."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.thresholds = np.array(numbers["thresholds"], float)
        self.offset, self.height = float(numbers["offset"]), float(numbers["height"])

    def __call__(self, value: Any) -> Any:
        """S'."""
        reached = sum((value >= threshold for threshold in self.thresholds), np.zeros(value.shape))
        return self.offset + self.height * reached


class Raw:
    """`S' = E`."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        pass

    def __call__(self, value: Any) -> Any:
        """E itself."""
        return value


OPERATORS: dict[str, Any] = {"Identity": Identity, "Traces": Traces, "Sums": Sums}
ESTIMATORS: dict[str, Any] = {"Sigmoid": Sigmoid, "Table": Table, "Levels": Levels, "Raw": Raw}


def operator(numbers: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """The operator that a description names."""
    return OPERATORS[numbers["kind"]](numbers, shape)
