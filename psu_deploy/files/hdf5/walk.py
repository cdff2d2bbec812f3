"""All that lies in some groups of an HDF5 file, as plain Python. Also a script that reads a file and forgets it.

It stands alone: as a script it runs in a process that may hang or crash in our place, and needs nothing but h5py.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

h5py: Any = import_module("h5py")

MAX_DEPTH = 32
"""Of groups in groups; more is no network."""

UNREADABLE, DAMAGED, TOO_MUCH = 3, 4, 5
"""Exit status of the script: no plain data; bytes missing or wrong; more memory than it may take. stderr says more."""

_NUMBER = 16
"""Bytes of memory a number takes on its way, beside those it has in the file: in 64 bits, and once more while it is
checked."""

_TEXT = 160
"""The same of a text of a few letters, and of a group."""

_NUMBERS = "biuf"


class UnreadableError(Exception):
    """A file that is whole but holds what is no plain data; the message says where."""


class TooMuchError(Exception):
    """What a file claims to hold takes more memory than it may; the message says where."""


def walk(
    source: Path | BinaryIO, groups: tuple[str, ...], kind: str, room: int, ragged: bool = False
) -> dict[str, dict[str, Any]]:
    """Group -> name -> number, array, text, or again a dictionary.

    Args:
        source: the file, or what is in it.
        groups: at its root; the first must be there, of the others those that are.
        kind: what such a file is, for messages: "NIR".
        room: bytes of memory that all of it may take.
        ragged: whether an array may lie at the root, and its rows may be of any length: an array of objects, an array
            each. How long they are is known when they are read, so only another process limits what they take.

    Raises:
        UnreadableError: if the first group is missing, or something is no plain data.
        TooMuchError: if it takes more memory; nothing was allocated.
        Exception: of any other kind that h5py raises where bytes are missing or wrong.
    """
    with h5py.File(source, "r") as file:
        names = sorted(file)
        if groups[0] not in names or not (ragged or isinstance(_follow(file, groups[0]), h5py.Group)):
            wanted = "" if ragged else "a group "
            raise UnreadableError(
                f"it is an HDF5 file but not {kind}: expected {wanted}{groups[0]!r}, found {names[:8]}"
            )
        # By name, not by what it stands for: a link that leads nowhere today may lead into a hostile file tomorrow.
        way = _Walk(room, ragged)
        read = way.item if ragged else way.group
        return {group: read(file, group, depth=0) for group in groups if group in names}


class _Walk:
    """One walk through one file. Remembers where it was: no group is an endless way, or many."""

    def __init__(self, room: int, ragged: bool) -> None:
        self._seen: set[int] = set()
        self._room = room
        self._ragged = ragged

    def group(self, parent: Any, name: str, depth: int) -> dict[str, Any]:
        group = _follow(parent, name)
        if not isinstance(group, h5py.Group):
            raise UnreadableError(f"{group.name!r} is a {type(group).__name__}, expected a group")
        address = int(h5py.h5o.get_info(group.id).addr)
        if address in self._seen or depth > MAX_DEPTH:
            raise UnreadableError(f"group {group.name!r} is there twice, contains itself or lies too deep")
        self._seen.add(address)
        return {str(key): self.item(group, key, depth) for key in group}

    def item(self, group: Any, key: str, depth: int) -> Any:
        item = _follow(group, key)
        if isinstance(item, h5py.Group):
            self._take(f"group {item.name!r}", _TEXT)
            return self.group(group, key, depth + 1)
        if isinstance(item, h5py.Dataset):
            return self._values(item)
        raise UnreadableError(f"{item.name!r} is a {type(item).__name__}, expected a group or a dataset")

    def _values(self, dataset: Any) -> Any:
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            raise UnreadableError(f"{dataset.name!r} is empty, or its numbers lie in another file")
        text = h5py.check_string_dtype(dataset.dtype) is not None
        rows = h5py.check_vlen_dtype(dataset.dtype) if self._ragged else None
        each = _TEXT if text or rows is not None else _NUMBER + int(dataset.dtype.itemsize)
        self._take(f"{dataset.name!r} claims {dataset.shape}", _memory(dataset, each))
        if text:
            return _text(dataset[()])
        if (dataset.dtype if rows is None else rows).kind not in _NUMBERS:
            raise UnreadableError(f"{dataset.name!r} holds {dataset.dtype}, expected numbers or text")
        return dataset[()]

    def _take(self, what: str, needed: int) -> None:
        self._room -= needed
        if self._room < 0:
            raise TooMuchError(what)


def _memory(dataset: Any, each: int) -> int:
    """Bytes for all values and for one chunk of them, which may be larger than all."""
    chunk = 0 if dataset.chunks is None else prod(map(int, dataset.chunks))
    size = prod(map(int, dataset.shape))
    return size * max(each, int(dataset.dtype.itemsize)) + chunk * int(dataset.dtype.itemsize)


def _follow(group: Any, key: str) -> Any:
    """What a name stands for; links into other places and other files are not followed."""
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise UnreadableError(f"{group.name}/{key} points elsewhere; expected the data in the file")
    return group[key]


def _text(value: Any) -> Any:
    """Bytes and arrays of them as str."""
    if isinstance(value, np.ndarray):
        return np.array([_text(v) for v in value.ravel()], dtype=object).reshape(value.shape)
    return value.decode() if isinstance(value, bytes) else str(value)


def _limit_memory(room: int) -> None:
    """From here on, this process gets no more than so many bytes: what unpacks to more than it claims ends here."""
    with suppress(ImportError, OSError, ValueError):  # no such limits on this system: what is claimed is checked anyway
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + room, hard))


def main(path: str, kind: str, room: int, ragged: bool, *groups: str) -> int:
    """Read a file and forget it; returns the exit status."""
    _limit_memory(room)
    try:
        walk(Path(path), groups, kind, room, ragged)
    except UnreadableError as error:
        return _said(UNREADABLE, str(error))
    except (TooMuchError, MemoryError) as error:
        return _said(TOO_MUCH, str(error))
    except Exception as error:  # noqa: BLE001  whatever h5py raises is what is wrong with the file
        reason = str(error).partition("\n")[0].strip("'\"") or type(error).__name__
        return _said(TOO_MUCH if "allocat" in reason else DAMAGED, reason)
    return 0


def _said(status: int, reason: str) -> int:
    sys.stderr.buffer.write(reason.encode("utf-8", "backslashreplace"))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "ragged", *sys.argv[5:]))
