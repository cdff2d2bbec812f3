"""Tuples, lists and dictionaries of arguments, as `torch.utils._pytree` sees them; plain ones at less cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

_LEAVES = frozenset((Tensor, nn.Parameter, int, float, bool, str, type(None)))


def leaves(tree: Any) -> list[Any]:
    """All that is in it, in order."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree of what a function makes of all that is in it."""
    kind = type(tree)
    if kind in _LEAVES:
        return function(tree)
    if kind is tuple or kind is list:
        return kind([mapped(function, one) for one in tree])
    if kind is dict:
        return {key: mapped(function, one) for key, one in tree.items()}
    return tree_map(function, tree)


def _collect(tree: Any, found: list[Any]) -> None:
    kind = type(tree)
    if kind in _LEAVES:
        found.append(tree)
    elif kind is tuple or kind is list:
        for one in tree:
            _collect(one, found)
    elif kind is dict:
        for one in tree.values():
            _collect(one, found)
    else:
        found.extend(tree_leaves(tree))
