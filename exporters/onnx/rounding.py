"""Weights in fewer bits: what is stored, and the numbers that it stands for, exactly.

    float16: the nearest, ties to even
    int8:    s q, q = round(w / s) in -127..127, s = max |w| / 127 of every output channel; s q in float32

What is computed with them is float32. A file of such weights is that of another network, `rounded`: the same with these
numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.numerics.subnormal import flushed

Weights = Literal["float32", "float16", "int8"]

WEIGHTS: tuple[Weights, ...] = ("float32", "float16", "int8")

ROUNDED = (ops.Linear, ops.Conv1d, ops.Conv2d, ops.Conv3d, ops.TimeConv)
"""Layers whose weights may be rounded: output channels come first."""

_LARGEST = 127


class Stored(NamedTuple):
    """Weights as a file has them.

    Attributes:
        numbers: float32, float16 or int8, output channels first.
        scale: float32, of every output channel; None = the numbers are the weights.
    """

    numbers: np.ndarray[Any, Any]
    scale: np.ndarray[Any, Any] | None = None

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """What they stand for, float32."""
        wide = self.numbers.astype(np.float32)
        return wide if self.scale is None else wide * self.scale.reshape(-1, *[1] * (wide.ndim - 1))


def stored(weight: np.ndarray[Any, Any], weights: Weights) -> Stored:
    """Weights in fewer bits. In float16, what is too large for it becomes infinite."""
    single = flushed(np.asarray(weight, np.float32))
    if weights == "float16":
        with np.errstate(over="ignore"):
            return Stored(single.astype(np.float16))
    largest = np.abs(single).reshape(len(single), -1).max(1)
    scale = flushed(largest / np.float32(_LARGEST))
    scale = np.where(scale > 0, scale, np.float32(1))
    whole = np.rint(single / scale.reshape(-1, *[1] * (single.ndim - 1)))
    return Stored(np.clip(whole, -_LARGEST, _LARGEST).astype(np.int8), scale)


def check_weights(machine: StateMachine, weights: Weights) -> None:
    """Raise `InputError` unless there are such weights, and they hold what the machine's are."""
    if weights not in WEIGHTS:
        raise InputError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    for node in machine.nodes if weights == "float16" else ():
        if isinstance(node.layer, ROUNDED) and not np.isfinite(stored(node.layer.weight, weights).values).all():
            raise InputError(
                f"layer {node.name!r}: its weights reach {np.abs(node.layer.weight).max():.3g}, float16 ends at 65504; "
                "choose weights='int8' or 'float32'"
            )


def rounded(machine: StateMachine, weights: Weights) -> StateMachine:
    """The network with the weights that a file of it holds; itself, where none is rounded."""
    if weights == "float32" or not any(isinstance(node.layer, ROUNDED) for node in machine.nodes):
        return machine
    nodes = [Node(node.name, _rounded(node.layer, weights), node.inputs) for node in machine.nodes]
    return StateMachine(tuple(nodes), machine.input_shape)


def _rounded(layer: ops.Layer, weights: Weights) -> ops.Layer:
    if not isinstance(layer, ROUNDED):
        return layer
    return replace(layer, weight=stored(layer.weight, weights).values.astype(np.float64))


def facts_of_rounding(machine: StateMachine, weights: Weights) -> dict[str, object]:
    """What a file says of it: how far off the weights of every layer are, in root mean squares over all of them."""
    off = {
        node.name: _off(node.layer.weight, stored(node.layer.weight, weights).values)
        for node in machine.nodes
        if isinstance(node.layer, ROUNDED) and weights != "float32"
    }
    if not off:
        return {}
    name = max(off, key=lambda layer: off[layer])
    said = f"weights of {len(off)} layers are rounded to {weights}, by at most {off[name]:.2%} (layer {name!r})"
    return {"fidelity": "approximate", "approximations": [said], "weights": weights, "rounding": off}


def _off(weight: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> float:
    size = float(np.sqrt(np.mean(np.square(weight, dtype=np.float64))))
    off = float(np.sqrt(np.mean(np.square(weight - values.astype(np.float64)))))
    return float(np.float32(off / size)) if size else 0.0
