"""Our metadata in a .net file: one JSON object, checked key by key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from psu_deploy.exporters.integers.metadata import IntegerHeader, read_integer_header
from psu_deploy.exporters.lava.target import FORMAT
from psu_deploy.runtime import Artifact

LIBRARIES = ("h5py",)
"""Beside our own: whose versions stand in a file."""


@dataclass(frozen=True, kw_only=True)
class LavaHeader(IntegerHeader):
    """What a .net file of ours says of itself."""

    target: ClassVar[str] = "lava"
    format: ClassVar[str] = FORMAT

    def artifact(self, path: Path) -> Artifact:
        """The engine answers late and the runner puts that right: the file's own horizon is longer by that much."""
        horizon = None if self.horizon is None else self.horizon + self.latency
        return replace(super().artifact(path), horizon=horizon)


def header_of(values: Any) -> LavaHeader:
    """What a file says of itself, checked.

    Raises:
        ValueError: if a key is missing or makes no sense.
    """
    header = read_integer_header(LavaHeader, values)
    return replace(header, latency=len(header.layers))
