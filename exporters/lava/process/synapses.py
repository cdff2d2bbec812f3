"""int8 weights as Lava's synapses compute with them exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

INT8_LARGEST = 127
"""Lava keeps strides, paddings, kernel sizes and the number of groups in eight bits, and wraps larger ones silently."""


def dense(weight: Any) -> dict[str, Any]:
    """Weights and exponent of Lava's Dense.

    A matrix of both signs loses its lowest bit there, so it is doubled and what arrives is halved again, exactly. One
    of a single sign (or of zeros) keeps all eight bits and must not be doubled: 2*128 would be clipped.
    """
    mixed = bool((weight > 0).any() and (weight < 0).any())
    return {"weight": weight * 2 if mixed else weight, "weight_exponent": -1 if mixed else 0, "num_weight_bits": 8}


def conv(layer: dict[str, Any]) -> dict[str, Any]:
    """Arguments of netx's Conv: axes x before y, kernel turned round, (C_out, kw, kh, C_in/groups)."""
    weight, groups = regroup(layer["weight"], int(layer["groups"]))
    pairs = {name: tuple(int(n) for n in layer[name][::-1]) for name in ("stride", "padding", "dilation")}
    largest = max(*weight.shape[2:], *(n for pair in pairs.values() for n in pair))
    if largest > INT8_LARGEST:
        raise ValueError(f"a kernel size, stride, padding or dilation of {largest}: Lava has at most {INT8_LARGEST}")
    return {"weight": weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1), "groups": groups, **pairs}


def regroup(weight: Any, groups: int) -> tuple[Any, int]:
    """The same convolution in no more groups than Lava counts to, the rest of the weights being zeros."""
    fewer = max(n for n in range(1, min(groups, INT8_LARGEST) + 1) if groups % n == 0)
    merged = groups // fewer
    if merged == 1:
        return weight, groups
    outputs, inputs = len(weight) // groups, weight.shape[1]
    wide = np.zeros((len(weight), inputs * merged, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        first = (group % merged) * inputs
        wide[rows, first : first + inputs] = weight[rows]
    return wide, fewer
