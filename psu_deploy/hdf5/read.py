"""HDF5 file -> plain Python, or one sentence about what is wrong with it.

libhdf5 follows the addresses in a file without asking where it has been: one damaged byte can leave it walking in a
circle, in C, where no time limit of ours reaches it. So another process reads every file first; what it comes through,
this one comes through as well.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from psu_deploy.errors import ArtifactError, require

PATIENCE = 30.0
"""Seconds for reading a file; one more for every ten million bytes."""


def read_tree(source: Path, group: str, kind: str, extra: str, *, known: bool = False) -> dict[str, Any]:
    """All that lies under one group: name -> number, array, text, or again a dictionary.

    Args:
        source: the file.
        group: at its root.
        kind: what such a file is, for messages: "NIR".
        extra: of this package that brings h5py for it.
        known: that this content was read or written here before, so that no other process need try it.

    Raises:
        ArtifactError: if the file is missing, damaged, not HDF5, has no such group, or holds what is no plain data.
    """
    require("h5py", extra)
    from psu_deploy.hdf5 import walk

    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    if not known:
        _rehearse(Path(walk.__file__), source, group)
    try:
        return walk.walk(source, group, kind)
    except walk.UnreadableError as error:
        raise ArtifactError(f"{source}: {error}") from error
    except Exception as error:
        reason = str(error).partition("\n")[0].strip("'\"") or type(error).__name__
        raise ArtifactError(f"{source} is truncated, damaged or not an HDF5 file: {reason}") from error


def _rehearse(script: Path, source: Path, group: str) -> None:
    """Raise `ArtifactError` if reading the file hangs or crashes another process."""
    seconds = PATIENCE + source.stat().st_size / 1e7
    command = [sys.executable, "-P", str(script), str(source.resolve()), group]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{source} is damaged: HDF5 was not done with it after {seconds:.0f} seconds") from error
    except OSError as error:
        raise ArtifactError(f"{source} was not read: no other process could be started to try it: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ArtifactError(f"{source} is damaged: HDF5 crashed on it (exit status {done.returncode}) {said}".rstrip())
