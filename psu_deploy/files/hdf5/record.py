"""Which HDF5 files need no rehearsal: those whose exact content was written here, or came through one before.

    <cache>/hdf5/<name>     empty; the name is a hash of the content, the groups, the memory allowed, and the libraries

<cache> is that of `files.cache`. Who can write there can vouch for a hostile file, so a folder that is not this user's
alone is ignored. Nothing depends on the record but time: where it cannot be read or written, a file is rehearsed again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from psu_deploy.files.cache import cache_folder, is_private

MOST = 4096
"""Names kept; then the older half goes."""

LARGEST = 1 << 30
"""Bytes of a file that is worth the time to hash it; a larger one is always rehearsed."""

_here: set[str] = set()
"""The same names, of this process: for those who keep no record."""


def name_of(source: Path, groups: tuple[str, ...], room: int) -> str | None:
    """What the record calls a file; None where it is too large to be in it.

    Args:
        source: the file.
        groups: of it that are read: nothing was seen of the others.
        room: bytes of memory that reading may take: what fits into more may not fit into less.
    """
    import h5py  # of an extra; who asks has it

    if source.stat().st_size > LARGEST:
        return None
    with source.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    # Another release of HDF5 may go astray where this one does not.
    libraries = (version("h5py"), h5py.version.hdf5_version)
    return hashlib.sha256(repr((content, groups, room, libraries)).encode()).hexdigest()


def is_known(name: str | None) -> bool:
    """Whether a file of that name was written here or came through."""
    if name is None:
        return False
    if name in _here:
        return True
    folder = cache_folder("hdf5")
    try:
        if folder is None or not is_private(folder):
            return False
        (folder / name).lstat()
    except OSError:
        return False
    with suppress(OSError):
        os.utime(folder / name)  # what is used stays longest
    return True


def remember(name: str | None) -> None:
    """A file of that name was written here or came through."""
    if name is None:
        return
    if len(_here) >= MOST:
        _here.clear()
    _here.add(name)
    folder = cache_folder("hdf5")
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if is_private(folder):
            os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600))  # empty, so it is there or it is not
            _forget_the_oldest(folder)


def _forget_the_oldest(folder: Path) -> None:
    names = list(os.scandir(folder))
    if len(names) > MOST:
        for entry in sorted(names, key=lambda entry: entry.stat().st_mtime)[: len(names) // 2]:
            Path(entry.path).unlink(missing_ok=True)
