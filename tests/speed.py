"""Which rows of a long list wait for a longer run; `markers` in pyproject.toml says what the marks mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def spread(rows: Iterable[Any], fast: int, full: int | None = None) -> list[Any]:
    """Rows for `parametrize`, of which so many, evenly spread over the list, run at every speed.

    Args:
        rows: values, or tuples of values.
        fast: how many run in `--fast` and always.
        full: how many run in CI, those included; the rest is nightly. None = all.
    """
    rows = list(rows)
    in_ci = _evenly(range(len(rows)), full)
    always = _evenly(in_ci, fast)
    marks = [() if i in always else pytest.mark.full if i in in_ci else pytest.mark.nightly for i in range(len(rows))]
    values = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [pytest.param(*value, marks=mark) for value, mark in zip(values, marks, strict=True)]


def _evenly(of: range | list[int], count: int | None) -> list[int]:
    count = len(of) if count is None else min(count, len(of))
    return [of[i * len(of) // count] for i in range(count)]
