"""Of what a page speaks, and how to see it again: versions, hashes, the command."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psu_deploy.report.collected import Collected

_HERE = ("psu-deploy", "torch", "numpy")


class Provenance(NamedTuple):
    """Everything one needs to repeat a verification.

    Attributes:
        command: that repeats it.
        hashes: (of what, SHA-256).
        versions: (library, version) of those that verified.
        written_by: the same of those that wrote the artifact.
        input: shape and type of what the network was run on.
    """

    command: str
    hashes: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    written_by: tuple[tuple[str, str], ...]
    input: str


def provenance(collected: Collected, command: str) -> Provenance:
    """Of one verification."""
    artifact = collected.artifact
    hashes = [("network", collected.machine.content_hash)]
    if artifact is not None:
        hashes.append(("made from network", artifact.machine_hash))
        hashes += [(artifact.path.name, digest) for digest in _file(artifact.path)]
    hashes.append(("input", hashlib.sha256(np.ascontiguousarray(collected.x).data).hexdigest()))
    return Provenance(
        command or _call(None if artifact is None else artifact.path),
        tuple(hashes),
        (("Python", platform.python_version()), *((name, _version(name)) for name in _HERE)),
        () if artifact is None else tuple(artifact.versions.items()),
        f"{tuple(collected.x.shape)} {collected.x.dtype}",
    )


def _call(path: Path | None) -> str:
    other = "other_machine" if path is None else repr(str(path))
    return f"psu_deploy.verify(model, {other}, x)"


def _file(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"
