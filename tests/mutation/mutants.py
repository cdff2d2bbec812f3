"""Small changes to a source file, one at a time: what a slip of the hand would leave behind.

Every change replaces a span of the text, so that nothing else of the file moves. Annotations, docstrings, the words of
errors and what only humans read are left alone: no test is asked to notice them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.mutation.rules import RULES
from tests.mutation.text import Mutant, Text

SILENT = (ast.arg, ast.AnnAssign, ast.Raise, ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom)
"""Nodes inside which nothing is changed, but for the value of an annotated assignment."""


def mutants_of(source: str) -> list[Mutant]:
    """Every change of a file, in the order of the text."""
    text = Text(source)
    found = [mutant for node in _spoken(ast.parse(source)) for rule in RULES for mutant in rule(text, node)]
    return sorted(dict.fromkeys(found), key=lambda m: (m.start, m.stop, m.after))


def _spoken(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that mean something when the program runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.value
            yield from _spoken(node.value)
        if isinstance(node, ast.Raise):
            yield node
        if isinstance(node, SILENT) or _is_a_check_of_lengths(node) or _is_docstring(node) or _is_list_of_names(node):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns, node.decorator_list = None, []
        if isinstance(node, ast.ClassDef):
            node.decorator_list = []
        yield node
        yield from _spoken(node)


def _is_a_check_of_lengths(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "strict"  # of zip: says what we know, and turns nothing


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_list_of_names(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
