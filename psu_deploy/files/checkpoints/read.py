"""`torch.load`, behind a look at what it would do."""

from __future__ import annotations

import argparse
import io
import warnings
from pathlib import Path
from typing import IO, Any

import torch

from psu_deploy.files.checkpoints.archive import is_archive, pickle_of
from psu_deploy.files.checkpoints.claims import Claims, DamagedError, ForeignObjectError, walk
from psu_deploy.files.limits import NUMBER, OBJECT, check_memory, memory_for, regular_size

_PICKLES = 5
"""In a file of torch before 1.6: a number, a version, the system, the content, and the names of the storages."""


def read(source: Path) -> tuple[Any, Claims]:
    """What `torch.save` wrote: tensors on the CPU, plain values and `argparse.Namespace`. Nothing is executed.

    The numbers of an archive stay in the file until they are looked at.

    Returns:
        The content, and what its tensors add up to.

    Raises:
        ArtifactError: if there is no such file, or it takes more memory than it may.
        ForeignObjectError: if it holds anything else; the message is its name.
        DamagedError: if it is no such file; the message says why.
    """
    size = regular_size(source)
    claims = Claims()
    try:
        archived = is_archive(source)
        _walk(source, archived, memory_for(size) // OBJECT, claims)
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from error
    check_memory(NUMBER * claims.numbers, size, f"{source}: its tensors, {claims.numbers} numbers,")
    return _load(source, archived), claims


def _walk(source: Path, archived: bool, most: int, claims: Claims) -> None:
    if archived:
        walk(io.BytesIO(pickle_of(source, most)), claims)
        return
    with source.open("rb") as file:
        stream: Any = _Limited(file, most)
        for _ in range(_PICKLES):
            walk(stream, claims)


def _load(source: Path, archived: bool) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is not readable is refused
            return torch.load(str(source), map_location="cpu", weights_only=True, mmap=archived)
    except Exception as error:
        raise DamagedError(str(error).partition("\n")[0] or type(error).__name__) from error


class _Limited:
    """A file that ends after so many bytes, for a reader that asks for as many as a pickle says."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._left = most

    def read(self, size: int = -1) -> bytes:
        return self._taken(self._file.read(self._left if size < 0 else min(size, self._left)))

    def readline(self) -> bytes:
        return self._taken(self._file.readline(self._left))

    def _taken(self, content: bytes) -> bytes:
        self._left -= len(content)
        return content


__all__ = ["DamagedError", "ForeignObjectError", "read"]
