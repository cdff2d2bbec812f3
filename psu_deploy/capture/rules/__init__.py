"""What calls between the modules of a forward become: one file per family, a rule per name."""

from __future__ import annotations

from typing import Any

from psu_deploy.capture.calls import RULES, Call
from psu_deploy.capture.rules import (
    arithmetic,
    decisions,
    indexing,
    joining,
    layers,
    moving,
    over_time,
    products,
    ranking,
    reducing,
)
from psu_deploy.capture.rules.decompositions import DECOMPOSITIONS
from psu_deploy.capture.rules.facts import FACTS, READS_NUMBERS, READS_NUMBERS_REASON
from psu_deploy.capture.rules.layers import FUNCTION_RULES, apply_function
from psu_deploy.errors import Refusal


def apply(call: Call) -> Any:
    """What a call gives: a `Value` for each tensor it returns, None for one that is a constant.

    Raises:
        Refusal: if there is no rule, or it does not apply.
    """
    if "out" in call.kwargs:
        raise Refusal("writes into a given tensor", "leave out= away")
    call = reducing.with_whole_sums(call)
    over_time.check_spans(call)
    if call.name in RULES:
        return RULES[call.name](call, *call.args, **call.kwargs)
    if call.name in FUNCTION_RULES:
        return apply_function(call)
    raise Refusal("no serial form known", "use modules, +, reshapes, x.mean(0)")


def known(name: str) -> bool:
    """Whether calls of this name become layers, if their axes allow it."""
    return name not in decisions.DECISIONS and (name in RULES or name in FUNCTION_RULES)


def plain_name(name: str) -> str:
    """The name of the same call that does not work in place."""
    in_place = name.endswith("_") and not name.endswith("__")
    return name[:-1] if in_place else name


__all__ = [
    "DECOMPOSITIONS",
    "FACTS",
    "READS_NUMBERS",
    "READS_NUMBERS_REASON",
    "apply",
    "arithmetic",
    "decisions",
    "indexing",
    "joining",
    "known",
    "layers",
    "moving",
    "over_time",
    "plain_name",
    "products",
    "ranking",
    "reducing",
]
