"""The files of an export, as they lie there."""

from __future__ import annotations

from pathlib import Path

from psu_deploy.errors import ArtifactError
from psu_deploy.files.limits import regular_size


def read_source(path: Path) -> bytes:
    """What is in a file of an export.

    Raises:
        ArtifactError: if it cannot be read.
    """
    regular_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
