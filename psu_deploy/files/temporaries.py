"""Folders for what is being written: a name that says so, and a lock that says whether their writer still lives.

    .<name>-<16 hexadecimal digits>-unfinished/
        lock            held as long as the writer lives
        ...             what it writes

The lock is the kernel's (flock): it goes when the process ends, however it ends, and no process id can be mistaken for
another one. It is a file of its own because HDF5 locks the files that it reads. Where there are no such locks, nothing
is removed that might still be written to.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOCK = "lock"
_MARK = "-unfinished"
_KEPT = 32
"""Characters of the final name in the temporary one, which is to be no longer than a name may be."""


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder that nobody else will remove; it is removed at the end with all that is still in it.

    Those that dead processes of this user left there under the same name are removed first.

    Args:
        parent: where to make it.
        name: of what is written, as a part of the folder's.

    Raises:
        OSError: if it cannot be made.
    """
    remove_leftovers(parent, name)
    with ExitStack() as stack:
        taken = False
        while not taken:
            folder = parent / f".{name[:_KEPT]}-{secrets.token_hex(8)}{_MARK}"
            stack.callback(_clear, folder)  # before it is there: an interrupt may come at any moment
            taken = _take(folder, stack)
        yield folder


def remove_leftovers(parent: Path, name: str) -> None:
    """Remove the temporary folders of dead processes of this user."""
    for folder in _unfinished(parent, name):
        _if_dead(folder, _clear)


def for_each_leftover(parent: Path, name: str, do: Callable[[Path], bool]) -> None:
    """Do something with the temporary folders of this user that nobody writes to, after whoever does is done.

    Args:
        parent: where they are.
        name: of what is written.
        do: what to do with one, which is locked; whether to remove it then. An OSError ends that one.
    """

    def use(folder: Path) -> None:
        if do(folder):
            _clear(folder)

    for folder in _unfinished(parent, name):
        _if_dead(folder, use, wait=True)


def _unfinished(parent: Path, name: str) -> list[Path]:
    pattern = re.compile(_pattern(re.escape(name[:_KEPT])))
    try:
        return [Path(entry.path) for entry in os.scandir(parent) if pattern.fullmatch(entry.name)]
    except OSError:  # a folder that may not be listed can still be written to
        return []


def is_temporary(path: Path) -> bool:
    """Whether this is the name of a temporary folder."""
    return re.fullmatch(_pattern(".*"), path.name) is not None


def _pattern(name: str) -> str:
    return rf"\.{name}-[0-9a-f]{{16}}{_MARK}"


def _take(folder: Path, stack: ExitStack) -> bool:
    """Make a folder and lock it until the stack ends; not if another process took it for a leftover in between."""
    folder.mkdir(0o700)
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return False
    stack.callback(os.close, handle)
    return not _lock(handle, wait=True) or os.fstat(handle).st_nlink > 0


def _lock(handle: int, wait: bool) -> bool:
    """Whether the lock is ours now; not where another process holds it, or where there are no locks."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _if_dead(folder: Path, do: Callable[[Path], None], *, wait: bool = False) -> None:
    """Do something with a folder of this user if nobody holds its lock, or when nobody does any more."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # gone by now, or not to be removed by us: then it stays
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            folder.rmdir()  # which only an empty one lets happen: its writer died before there was a lock, or after
            return
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode) and _lock(handle, wait=wait):
                do(folder)
        finally:
            os.close(handle)


def _clear(folder: Path) -> None:
    """Remove a folder, its lock last: who is killed in between leaves what can be removed by the next one."""
    with suppress(OSError):  # a child may remove its job folder at the same time; what is left, the next one removes
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
