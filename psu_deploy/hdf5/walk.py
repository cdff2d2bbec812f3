"""All that lies in one group of an HDF5 file, as plain Python. Also a script that reads a file and forgets it.

It stands alone: as a script it runs in a process that may hang or crash in our place, and needs nothing but h5py.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

h5py: Any = import_module("h5py")

MAX_DEPTH = 32
"""Of groups in groups; more is no network."""

MAX_INFLATION = 1100
"""What a file may unpack to, in multiples of its size: deflate reaches 1032. More is space that was never written."""

_SLACK = 1 << 20
_NUMBERS = "biuf"


class UnreadableError(Exception):
    """A file that is whole but holds what is no plain data; the message says where."""


def walk(source: Path, group: str, kind: str = "NIR") -> dict[str, Any]:
    """Name -> number, array, text, or again a dictionary.

    Raises:
        UnreadableError: if there is no such group, or something in it is no plain data.
        Exception: of any other kind that h5py raises where bytes are missing or wrong.
    """
    with h5py.File(source, "r") as file:
        if not isinstance(file.get(group), h5py.Group):
            raise UnreadableError(
                f"it is an HDF5 file but not {kind}: expected a group {group!r}, found {sorted(file)[:8]}"
            )
        return _Walk(source.stat().st_size).group(file, group, depth=0)


class _Walk:
    """One walk through one file. Remembers where it was: no group is an endless way, or many."""

    def __init__(self, size: int) -> None:
        self._seen: set[int] = set()
        self._room = MAX_INFLATION * size + _SLACK

    def group(self, parent: Any, name: str, depth: int) -> dict[str, Any]:
        group = _follow(parent, name)
        address = int(h5py.h5o.get_info(group.id).addr)
        if address in self._seen or depth > MAX_DEPTH:
            raise UnreadableError(f"group {group.name!r} is there twice, contains itself or lies too deep")
        self._seen.add(address)
        return {str(key): self._item(group, key, depth) for key in group}

    def _item(self, group: Any, key: str, depth: int) -> Any:
        item = _follow(group, key)
        if isinstance(item, h5py.Group):
            return self.group(group, key, depth + 1)
        if isinstance(item, h5py.Dataset):
            return self._values(item)
        raise UnreadableError(f"{item.name!r} is a {type(item).__name__}, expected a group or a dataset")

    def _values(self, dataset: Any) -> Any:
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            raise UnreadableError(f"{dataset.name!r} is empty, or its numbers lie in another file")
        self._room -= dataset.size * dataset.dtype.itemsize
        if self._room < 0:
            raise UnreadableError(
                f"{dataset.name!r} claims {dataset.shape} numbers, more than the file can hold; "
                "it is truncated or was never filled"
            )
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return _text(dataset[()])
        if dataset.dtype.kind not in _NUMBERS:
            raise UnreadableError(f"{dataset.name!r} holds {dataset.dtype}, expected numbers or text")
        return dataset[()]


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


if __name__ == "__main__":
    with suppress(Exception):  # found again by who reads the file in earnest
        walk(Path(sys.argv[1]), sys.argv[2])
