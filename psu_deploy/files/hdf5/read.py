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
from psu_deploy.files.limits import MEMORY, SECONDS, memory_for, seconds, spell

_UNREADABLE, _DAMAGED, _TOO_MUCH = 3, 4, 5
"""Exit status of walk.py, which is imported only where h5py is."""


def read_tree(source: Path, group: str, kind: str, extra: str, *, known: bool = False) -> dict[str, Any]:
    """All that lies under one group: name -> number, array, text, or again a dictionary.

    Args:
        source: the file.
        group: at its root.
        kind: what such a file is, for messages: "NIR".
        extra: of this package that brings h5py for it.
        known: that this content was read or written here before, so that no other process need try it.

    Raises:
        ArtifactError: if the file is missing, damaged, not HDF5, has no such group, holds what is no plain data, or
            takes more time or memory than it may.
    """
    require("h5py", extra)
    from psu_deploy.files.hdf5 import walk

    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    room = memory_for(source.stat().st_size)
    if not known:
        _rehearse(Path(walk.__file__), source, group, kind, room)
    try:
        return walk.walk(source, group, kind, room)
    except walk.UnreadableError as error:
        raise ArtifactError(f"{source}: {error}") from error
    except (walk.TooMuchError, MemoryError) as error:
        raise ArtifactError(_too_much(source, room, str(error))) from error
    except Exception as error:
        reason = str(error).partition("\n")[0].strip("'\"") or type(error).__name__
        raise ArtifactError(_damaged(source, reason)) from error


def _rehearse(script: Path, source: Path, group: str, kind: str, room: int) -> None:
    """Raise `ArtifactError` if another process does not come through the file in time and within its memory."""
    patience = seconds()
    command = [sys.executable, "-P", str(script), str(source.resolve()), group, kind, str(room)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{source} is damaged: HDF5 was not done with it after {patience:g} seconds; "
            f"if it is only large, raise {SECONDS}"
        ) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{source} was not read: no other process could be started to try it: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="backslashreplace").strip().rpartition("\n")[2]
        raise ArtifactError(_refusal(source, room, done.returncode, said))


def _refusal(source: Path, room: int, status: int, said: str) -> str:
    if status == _UNREADABLE:
        return f"{source}: {said}"
    if status == _DAMAGED:
        return _damaged(source, said)
    if status == _TOO_MUCH:
        return _too_much(source, room, said)
    return f"{source} is damaged: HDF5 crashed on it (exit status {status}) {said}".rstrip()


def _damaged(source: Path, reason: str) -> str:
    return f"{source} is truncated, damaged or not an HDF5 file: {reason}"


def _too_much(source: Path, room: int, where: str) -> str:
    return (
        f"{source} takes more than the {spell(room)} of memory a file of its size may take "
        f"({where or 'while it was read'}); it is damaged, or if it can be trusted, raise {MEMORY} (bytes)"
    )
