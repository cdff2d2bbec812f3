"""Files that are being written: a name beside the final one, and a lock that says whether their writer still lives.

The lock is the kernel's (flock): it goes when the process ends, however it ends, and no process id can be mistaken for
another one. Where there are no such locks, nothing is ever removed: what might still be written stays.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

MARK = "-unfinished"
"""In the name of every temporary file, before its suffix."""

_TOKEN = r"[0-9a-f]{16}"
_MAX_STEM = 32
"""Characters of the final name in the temporary one, which is to be no longer than a name may be."""


@contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """Yield a new, locked, empty file beside `target`, with its suffix; remove it unless it was moved away.

    What dead writers of the same target left is removed first.

    Raises:
        OSError: if there can be no such file.
    """
    remove_leftovers(target)
    temporary, lock = _create(target)
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
        _release(lock)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a new, locked folder where the system keeps temporary ones; remove it at the end.

    Those of the same prefix that dead processes of this user left are removed first.

    Args:
        prefix: of its name; nobody else's folders may begin with it.
    """
    root = Path(tempfile.gettempdir())
    for entry in _entries(root, re.compile(re.escape(prefix) + ".+")):
        _remove_unless_alive(entry, os.O_RDONLY)
    folder, lock = _create_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a child that outlives its parent removes it too
        os.close(lock)


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files beside `target` that were to become it and whose writers are dead."""
    for entry in _entries(target.parent, re.compile(_pattern(target))):
        _remove_unless_alive(entry, os.O_RDWR)


def is_temporary(path: Path) -> bool:
    """Whether a file is one that is being written, or was."""
    return re.fullmatch(rf"\..*-{_TOKEN}{re.escape(MARK)}.*", path.name) is not None


def _name(target: Path, token: str) -> tuple[str, str, str]:
    return f".{target.stem.lstrip('.')[:_MAX_STEM]}-", token, f"{MARK}{target.suffix}"


def _pattern(target: Path) -> str:
    before, token, after = _name(target, _TOKEN)
    return f"{re.escape(before)}{token}{re.escape(after)}"


def _create(target: Path) -> tuple[Path, int | None]:
    """A new file and what holds its lock."""
    while True:
        temporary = target.with_name("".join(_name(target, secrets.token_hex(8))))
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if not _lock(handle, wait=True):
            os.close(handle)
            return temporary, None
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # another writer took it for a leftover before the lock was there


def _create_folder(prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        with suppress(FileNotFoundError):  # as above
            handle = os.open(folder, os.O_RDONLY)
            _lock(handle, wait=True)
            if folder.is_dir():
                return folder, handle
            os.close(handle)


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _lock(handle: int, wait: bool) -> bool:
    """Whether the lock is ours now; not where another process holds it, or where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _entries(folder: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if name.fullmatch(entry.name)]
    except OSError:  # a folder that may not be listed can still be written to
        return []


def _remove_unless_alive(path: Path, flags: int) -> None:
    """Remove a file, or a folder, of this user if nobody holds its lock."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone by now, or somebody else's
        return
    try:
        found = os.fstat(handle)
        if found.st_uid == os.geteuid() and _lock(handle, wait=False):
            _remove(path, found.st_mode)
    finally:
        os.close(handle)


def _remove(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        shutil.rmtree(path, ignore_errors=True)
    elif stat.S_ISREG(mode):
        with suppress(OSError):  # moved into place at this very moment, or may not be removed: then it stays
            path.unlink()
