"""Every kind of op there is: registered where it is defined, by its name; what is not here has no meaning to anybody.

A kind is an exact type: a subclass may compute something else, so it is registered itself or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import isabstract
from typing import Any, TypeVar, cast, dataclass_transform

from psu_deploy.errors import InputError

KINDS: dict[str, type] = {}
"""Name in files -> kind: layers, causal operators and estimators."""

Kind = TypeVar("Kind", bound=type)


@dataclass_transform(frozen_default=True, eq_default=False)
def op(kind: Kind) -> Kind:
    """Make a class a frozen dataclass and an op: `.psm` files, content hash, summary and proofs know it from then on.

    Raises:
        InputError: if the name is taken, or something every op must say is not said.
    """
    made: Any = dataclass(frozen=True, eq=False)(kind)
    if isabstract(made):
        missing = ", ".join(sorted(made.__abstractmethods__))
        raise InputError(f"{made.__name__} is no op before it defines {missing}")
    taken = KINDS.get(made.__name__, made)
    if (taken.__module__, taken.__qualname__) != (made.__module__, made.__qualname__):  # defined anew: a notebook
        raise InputError(f"there is an op called {made.__name__} already, in {taken.__module__}; choose another name")
    KINDS[made.__name__] = made
    return cast(Kind, made)


def kinds_of(base: type) -> dict[type, None]:
    """Every registered kind below a base class, as a table whose rows say nothing but that the kind is known."""
    return dict.fromkeys(kind for kind in KINDS.values() if issubclass(kind, base))
