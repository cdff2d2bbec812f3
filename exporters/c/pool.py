"""Where the numbers between layers lie: one array, whose parts are used again once nobody reads them any more."""

from __future__ import annotations

_LINE = 16
"""Numbers in a cache line: parts begin at one."""


class Pool:
    """Hands out parts of an array of floats.

    Attributes:
        size: numbers that are needed at one time at most.
    """

    def __init__(self) -> None:
        self.size = 0
        self._used: list[tuple[int, int]] = []

    def take(self, count: int) -> int:
        """The start of the first gap that holds so many numbers."""
        start = 0
        for begin, end in sorted(self._used):
            if begin - start >= count:
                break
            start = -(-end // _LINE) * _LINE
        self._used.append((start, start + count))
        self.size = max(self.size, start + count)
        return start

    def give_back(self, start: int) -> None:
        """A part that is free again."""
        self._used = [part for part in self._used if part[0] != start]
