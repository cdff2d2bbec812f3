"""What a file holds, as far as it tells: for people who look into it, and nothing that runs depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Tensor(NamedTuple):
    """One tensor that goes in or out, or stays.

    Attributes:
        name: in the file.
        shape: per sample.
        dtype: as numpy spells it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class LayerLine(NamedTuple):
    """One layer.

    Attributes:
        name: in the file.
        kind: as the format spells it.
        shape: of its output, per sample; None = the file does not tell.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Contents:
    """What one step takes, gives and keeps, and the layers in between.

    Attributes:
        inputs: of one step.
        outputs: of one step.
        layers: in the order in which they are computed; () = the file does not tell.
        state: from step to step, zero at first; () = the engine keeps it to itself.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    layers: tuple[LayerLine, ...] = ()
    state: tuple[Tensor, ...] = ()
