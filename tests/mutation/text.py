"""One change of a source file, and the spans of its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change.

    Args:
        kind: which operator made it, such as "comparison".
        line: where, from 1.
        start: offset in the source, in characters.
        stop: the end of the span.
        before: the span.
        after: what stands there instead.
    """

    kind: str
    line: int
    start: int
    stop: int
    before: str
    after: str

    def applied_to(self, source: str) -> str:
        """The file with this change."""
        return source[: self.start] + self.after + source[self.stop :]


class Text:
    """A source whose spans are found by the positions of the syntax tree, which count bytes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.expr | ast.stmt) -> str:
        start, stop = self.span(node)
        return self.source[start:stop]

    def replace(self, kind: str, node: ast.expr | ast.stmt, after: str) -> Mutant:
        start, stop = self.span(node)
        return Mutant(kind, node.lineno, start, stop, self.source[start:stop], after)

    def between(self, kind: str, left: ast.expr, right: ast.expr, words: str, after: str) -> Iterator[Mutant]:
        """The operator between two operands; brackets and line breaks around it stay."""
        low, high = self.span(left)[1], self.span(right)[0]
        at = self.source.find(words, low, high)
        if at >= 0:
            line = self.source.count("\n", 0, at) + 1
            yield Mutant(kind, line, at, at + len(words), words, after)
