"""What every type of NIR node holds, and which values make sense.

Nodes are known by the name of their class, so that NIR itself is imported only to make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError
from psu_deploy.machine.ops.fields import Array

GRAPH = "NIRGraph"


@dataclass(frozen=True)
class Kind:
    """What a type of node holds.

    Args:
        numbers: parameters, finite.
        optional: parameters that older files lack.
        positive: those of the parameters that must be above zero.
        other: what is no parameter: shapes, strides, axes.
        absent: those of the others that may be missing.
    """

    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def required(self) -> frozenset[str]:
        """Names a file must have."""
        return frozenset(self.numbers + self.other)

    @property
    def known(self) -> frozenset[str]:
        """Names a file may have."""
        return self.required | frozenset(self.optional + self.absent)


_CONV = Kind(("weight",), ("bias",), (), ("stride", "padding", "dilation", "groups"), ("input_shape",))
_POOL = Kind(other=("kernel_size", "stride", "padding"))

KINDS = {
    "Input": Kind(other=("shape",)),
    "Output": Kind(other=("shape",)),
    "Affine": Kind(("weight", "bias")),
    "Linear": Kind(("weight",)),
    "Scale": Kind(("scale",)),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": Kind(other=("start_dim", "end_dim"), absent=("input_type",)),
    "Delay": Kind(("delay",)),
    "Threshold": Kind(("threshold",)),
    "I": Kind(("r",)),
    "LI": Kind(("tau", "r", "v_leak"), (), ("tau",)),
    "CubaLI": Kind(("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",), ("tau_syn", "tau_mem")),
    "IF": Kind(("r", "v_threshold"), ("v_reset",)),
    "LIF": Kind(("tau", "r", "v_leak", "v_threshold"), ("v_reset",), ("tau",)),
    "CubaLIF": Kind(("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), ("v_reset", "w_in"), ("tau_syn", "tau_mem")),
}
"""Type of a node, `NIRGraph` aside -> what it holds."""


def kind_name(node: Any) -> str:
    """The type of a node object."""
    return type(node).__name__


def numbers(node: Any, name: str) -> Array:
    """A parameter of a node object as float64, whatever it was given as."""
    value = getattr(node, name)
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, dtype=np.float64)


def check_fields(where: str, kind: str, fields: Mapping[str, Any]) -> None:
    """Raise `ArtifactError` unless a node of a file has the fields of its type and no other."""
    if kind not in KINDS:
        raise ArtifactError(f"{where} has the unknown type {kind!r}; expected one of {', '.join((*KINDS, GRAPH))}")
    missing = sorted(KINDS[kind].required - fields.keys())
    unknown = sorted(fields.keys() - KINDS[kind].known - {"type", "metadata"})
    if missing or unknown:
        raise ArtifactError(
            f"{where} ({kind}) lacks {missing} and has {unknown}, which no {kind} has; "
            f"expected {sorted(KINDS[kind].required)}"
        )


def check_node(where: str, node: Any) -> None:
    """Raise `ArtifactError` unless the parameters of a node object are finite numbers in the range of its type."""
    name = kind_name(node)
    if name not in KINDS:
        raise ArtifactError(f"{where} has the unknown type {name!r}; expected one of {', '.join((*KINDS, GRAPH))}")
    kind = KINDS[name]
    for field in (*kind.numbers, *kind.optional):
        if field in kind.optional and getattr(node, field, None) is None:
            continue
        _check_numbers(f"{where} ({name}): {field}", node, field, positive=field in kind.positive)


def _check_numbers(where: str, node: Any, field: str, *, positive: bool) -> None:
    try:
        values = numbers(node, field)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{where} must be an array of numbers: {error}") from error
    if not values.size:
        raise ArtifactError(f"{where} is empty; expected at least one number")
    if not np.isfinite(values).all():
        raise ArtifactError(f"{where} holds NaN or infinity; expected finite numbers")
    if positive and (values <= 0).any():
        raise ArtifactError(f"{where} must be above zero, got {values.min():g}")
