"""What an exported file says of itself: one set of facts for every format, and one strict reader of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from psu_deploy.errors import ArtifactError
from psu_deploy.runtime.artifact import Artifact, Fidelity
from psu_deploy.text import visible

Count = Annotated[int, Meta(ge=1)]
"""A whole number, at least one."""

Natural = Annotated[int, Meta(ge=0)]
"""A whole number, at least zero."""

Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
"""A finite number above zero."""

Features = Annotated[tuple[Count, ...], Meta(min_length=1)]
"""Of one step of the input: no time, no batch."""

Given = tuple[Count, ...]
"""Features of one step of an output, which may be a single number."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts that every format has. A subclass is the schema of one format: its keys, with their types and ranges.

    A fact that a format has no key for is given a default there; one that it keeps elsewhere is filled in by its room.

    Attributes:
        machine_hash: content hash of the machine that was exported.
        fidelity: "faithful": the same network; "approximate": see `approximations`.
        approximations: every approximation made, in words.
        static_input: whether the input is read in the first step only.
        versions: library -> version that wrote the file.
        input_shape: features of one input step.
        output_shape: features of one output step.
        horizon: steps that a runner of the file takes; None = any number.
        latency: steps between an input and its output.
        facts: the plain data, as they stand in the file.
    """

    target: ClassVar[str]
    """Which exporter writes such files."""

    format: ClassVar[str]
    """Name and version of the format, under the key `format`."""

    machine_hash: str
    fidelity: Fidelity
    approximations: tuple[str, ...]
    static_input: bool
    versions: dict[str, str]
    input_shape: Features
    output_shape: Given
    horizon: Count | None
    latency: Natural
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def artifact(self, path: Path) -> Artifact:
        """What a file promises that says this."""
        return Artifact(
            path=path,
            target=self.target,
            fidelity=self.fidelity,
            machine_hash=self.machine_hash,
            horizon=self.horizon,
            latency=self.latency,
            static_input=self.static_input,
            versions=self.versions,
            approximations=self.approximations,
        )


H = TypeVar("H", bound=Header)


def read_header(schema: type[H], values: Any) -> H:
    """Plain data, as JSON gives them, as the header of a format.

    Args:
        schema: of the format.
        values: anything at all.

    Raises:
        ValueError: if the format is another, a key is missing, or a value has the wrong type or range; says which.
    """
    if not isinstance(values, dict):
        raise ValueError(f"they are {type(values).__name__}, expected an object")
    said = values.get("format")
    if said != schema.format:
        raise ValueError(f"it has format {visible(repr(said))}; this release reads {schema.format!r}")
    try:
        header = msgspec.convert(values, type=schema, strict=True)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(visible(str(error))) from error
    return replace(header, facts=values)


def malformed(path: Path, what: str, error: Exception) -> ArtifactError:
    """The error for a file whose metadata make no sense."""
    missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return ArtifactError(f"{path} has malformed {what} metadata, or is truncated: {missing}")
