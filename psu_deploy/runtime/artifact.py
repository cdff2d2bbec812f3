"""What is known about an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fidelity = Literal["faithful", "approximate"]


@dataclass(frozen=True)
class Artifact:
    """A file an exporter wrote, and what it promises.

    Attributes:
        path: the file.
        target: which exporter wrote it.
        fidelity: "faithful": the same network; "approximate": see `approximations`.
        machine_hash: content hash of the state machine it was made from.
        horizon: number of steps it is defined for; None = any number.
        latency: steps between an input and its output.
        static_input: whether the input is read in the first step only, as one image shown at every step.
        versions: library -> version that wrote it.
        approximations: every approximation made, in words.
        files: names of all that `export` wrote, the file first; () = the file alone, or it was opened, not written.
    """

    path: Path
    target: str
    fidelity: Fidelity
    machine_hash: str
    horizon: int | None
    latency: int
    static_input: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    approximations: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)
