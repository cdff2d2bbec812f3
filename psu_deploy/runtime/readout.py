"""What a decoder says after every step, where the engine itself gives one answer per step."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

ReadoutKind = Literal["last", "sum", "mean"]

READOUTS: tuple[str, ...] = get_args(ReadoutKind)
"""What it can do."""


class RunningReadout:
    """The answer after every step: this one, the sum so far, or the mean so far. In the dtype of the rows.

    Args:
        kind: "last", "sum" or "mean".
    """

    def __init__(self, kind: ReadoutKind) -> None:
        self._kind = kind
        self._total: Any = 0.0
        self._steps = 0

    def __call__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Some steps on: (T, B, *features) -> the same."""
        return rows if self._kind == "last" else np.stack([self._after(row) for row in rows])

    def _after(self, row: np.ndarray[Any, Any]) -> Any:
        self._total, self._steps = self._total + row, self._steps + 1
        return self._total / row.dtype.type(self._steps) if self._kind == "mean" else self._total
