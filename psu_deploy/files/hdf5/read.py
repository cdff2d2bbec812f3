"""HDF5 file -> plain Python, or one sentence about what is wrong with it.

libhdf5 follows the addresses in a file without asking where it has been: one damaged byte can leave it walking in a
circle, in C, where no time limit of ours reaches it. So another process reads a file first; what it comes through,
this one comes through as well. That costs a fifth of a second, so `record` remembers what has been rehearsed.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

from psu_deploy.errors import ArtifactError, require
from psu_deploy.files.hdf5 import record
from psu_deploy.files.limits import MEMORY, SECONDS, memory_for, seconds, spell

_UNREADABLE, _DAMAGED, _TOO_MUCH = 3, 4, 5
"""Exit status of walk.py, which is imported only where h5py is."""


def read_groups(
    source: Path, groups: tuple[str, ...], kind: str, extra: str, *, ragged: bool = False
) -> dict[str, dict[str, Any]]:
    """All that lies under some groups at the root: name -> number, array, text, or again a dictionary; for each group.

    Args:
        source: the file.
        groups: what to read; the first must be there, of the others those that are.
        kind: what such a file is, for messages: "NIR".
        extra: of this package that brings h5py for it.
        ragged: whether an array may lie at the root, and its rows may be of any length: an array of objects.

    Raises:
        ArtifactError: if the file is missing, damaged, not HDF5, lacks the first group, holds what is no plain data, or
            takes more time or memory than it may.
    """
    require("h5py", extra)
    from psu_deploy.files.hdf5 import walk

    if not source.is_file():
        raise ArtifactError(f"{source} does not exist or is not a file")
    room = memory_for(source.stat().st_size)
    try:
        name = record.name_of(source, groups, room)
    except OSError as error:
        raise ArtifactError(f"cannot read {source}: {error.strerror or error}") from error
    if not record.is_known(name):
        _rehearse(Path(walk.__file__), source, (kind, str(room), "ragged" if ragged else "", *groups), room, name)
    try:
        return walk.walk(source, groups, kind, room, ragged)
    except walk.UnreadableError as error:
        raise ArtifactError(f"{source}: {error}") from error
    except (walk.TooMuchError, MemoryError) as error:
        raise ArtifactError(_too_much(source, room, str(error))) from error
    except Exception as error:
        reason = str(error).partition("\n")[0].strip("'\"") or type(error).__name__
        raise ArtifactError(_damaged(source, reason)) from error


def vouch_for(source: Path, groups: tuple[str, ...]) -> None:
    """Let a file that was just written here be read without a rehearsal, as long as its content stays the same.

    Args:
        source: the file.
        groups: of it that will be read.
    """
    record.remember(record.name_of(source, groups, memory_for(source.stat().st_size)))


def tree_of(content: bytes | memoryview, group: str) -> dict[str, Any]:
    """One group of a file that was written here, or read before."""
    from psu_deploy.files.hdf5 import walk

    return walk.walk(io.BytesIO(content), (group,), "ours", memory_for(len(content)))[group]


def _rehearse(script: Path, source: Path, arguments: tuple[str, ...], room: int, name: str | None) -> None:
    """Raise `ArtifactError` if another process does not come through the file in time and within its memory."""
    patience = seconds()
    command = [sys.executable, "-P", str(script), str(source.resolve()), *arguments]
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
    record.remember(name)


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
