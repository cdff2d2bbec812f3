"""The memory that a step writes its results into: one block for the outputs and all state, so that one look sees all.

The product of a vector with itself finds out whether its numbers are finite, quicker than asking each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np

from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import StateTensor
from psu_deploy.machine.overflow import THE_OUTPUT, first_overflow

Floats = np.ndarray[Any, Any]

AT_EVERY_STEP = 8192
"""Numbers of output and state that are looked at after every step: the outputs, then the smallest tensors."""
TURNS = 16
"""Steps in which all others are looked at once. A step reads and writes them several times, so this is cheap."""
_LINE = 16
"""Numbers in a cache line: tensors begin at one."""


class Block(NamedTuple):
    """What one step writes.

    Attributes:
        outputs: name -> output, (B, *features).
        state: name -> tensor, the counter among them; all but the counter lie in the block.
        always: the part of the block that is looked at after every step.
        in_turn: the other parts, one of which is.
        early: names of the tensors in `always`.
    """

    outputs: dict[str, Floats]
    state: dict[str, np.ndarray[Any, Any]]
    always: Floats
    in_turn: list[Floats]
    early: frozenset[str]

    def overflow(self) -> tuple[str, bool] | None:
        """Name of the first tensor, in network order, that is not finite, and whether it was seen in its very step."""
        name = first_overflow([*self.state.items(), *((THE_OUTPUT, y) for y in self.outputs.values())])
        return None if name is None else (name, name in self.early)


def block(batch: int, outputs: Mapping[str, tuple[int, ...]], spec: Mapping[str, StateTensor]) -> Block:
    """Zeros for a batch size.

    Args:
        batch: B.
        outputs: name -> features of every output.
        spec: name -> shape and dtype of every state tensor, in network order.
    """
    shapes = {("state", name): (batch, *tensor.shape) for name, tensor in spec.items() if tensor.batched}
    ends = {("output", name): (batch, *shape) for name, shape in outputs.items()}
    order = [*ends, *sorted(shapes, key=lambda key: prod(shapes[key]))]
    shapes |= ends
    stops = np.cumsum([-(-prod(shapes[key]) // _LINE) * _LINE for key in order]).tolist()
    flat, starts = _aligned(stops[-1]), [0, *stops[:-1]]
    lie = {
        key: flat[start:][: prod(shapes[key])].reshape(shapes[key]) for key, start in zip(order, starts, strict=True)
    }
    early = [key for key, stop in zip(order, stops, strict=True) if key in ends or stop <= AT_EVERY_STEP]
    cut = stops[len(early) - 1]
    state = {n: lie["state", n] if tensor.batched else np.zeros((), tensor.dtype) for n, tensor in spec.items()}
    in_turn = np.array_split(flat[cut:], TURNS) if cut < len(flat) else []
    given = {name: lie["output", name] for name in outputs}
    seen = {THE_OUTPUT, *(name for what, name in early if what == "state")}
    return Block(given, state, flat[:cut], in_turn, frozenset(seen))


def suspicious(numbers: Floats) -> bool:
    """Whether a vector may hold NaN or infinity: it does, or its numbers are huge."""
    # Unlike dot, vdot gives no warning of an overflow.
    return not isfinite(np.vdot(numbers, numbers))


def _aligned(size: int) -> Floats:
    raw = np.zeros(size + _LINE, TARGET.dtype)
    start = -(raw.ctypes.data // raw.itemsize) % _LINE
    aligned: Floats = raw[start : start + size]
    return aligned
