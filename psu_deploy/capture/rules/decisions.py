"""Calls that decide by the numbers they see: refused, but for choices by a constant mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.conversion import array
from psu_deploy.capture.rules.arithmetic import affine
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal

_COMPARISONS = (
    "gt",
    "ge",
    "lt",
    "le",
    "eq",
    "ne",
    "greater",
    "less",
    "not_equal",
    "isclose",
    "isnan",
    "isfinite",
    "isinf",
)
_JUMPS = ("sign", "sgn", "heaviside", "round", "floor", "ceil", "trunc", "fix", "frac", "threshold", "bernoulli")
_ORDERS = ("mode", "searchsorted", "bucketize")
_LOGIC = ("logical_and", "logical_or", "logical_not", "logical_xor", "any", "all", "bool", "int", "long", "bitwise_not")


def _refused(call: Call, *args: Any, **kwargs: Any) -> None:
    raise Refusal(
        f"decides by the numbers it sees: {call.name} jumps, and rounding could turn it",
        "leave decisions to neurons; argmax may stand at the end",
    )


_NAMES = (*_COMPARISONS, *_JUMPS, *_ORDERS, *_LOGIC)

DECISIONS = frozenset((*_NAMES, *(f"__{name}__" for name in _NAMES)))
"""Calls that no axes would make a layer of."""

rule(*DECISIONS)(_refused)


@rule("where")
def where(call: Call, condition: Any, x: Any = None, y: Any = None) -> Value:
    """x where a constant mask says so, else y; one of them a constant."""
    if isinstance(condition, Value):
        _refused(call)
    mask = array(condition)
    if isinstance(x, Value) and isinstance(y, Value):
        raise Refusal("chooses between two tensors", "x * mask + y * (1 - mask)")
    value, constant, kept = (x, y, mask) if isinstance(x, Value) else (y, x, 1.0 - mask)
    other = array(constant) if isinstance(constant, Tensor) else np.asarray(constant, np.float64)
    if not np.isfinite(other).all():
        raise Refusal("fills in numbers that are not finite", "use finite numbers")
    return affine(call, value, kept, other * (1.0 - kept))
