"""What a file may cost before it is believed: memory and time, as plain numbers.

    PSU_DEPLOY_MAX_MEMORY    bytes of memory for reading and checking one file, and for one sample of what is in it;
                             default: 1 GiB, or 20 times the size of the file where that is more
    PSU_DEPLOY_MAX_SECONDS   seconds for reading one file in another process; default: 20

A file says how large its contents are. Readers add up what it claims and ask here before they allocate any of it.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

from psu_deploy.errors import ArtifactError, InputError

MEMORY = "PSU_DEPLOY_MAX_MEMORY"
SECONDS = "PSU_DEPLOY_MAX_SECONDS"

LEAST_MEMORY = 1 << 30
PER_BYTE = 20
PATIENCE = 20.0

OBJECT = 256
"""Bytes of memory that one byte of structure (JSON, pickle, protobuf, without the numbers) can become at most."""

NUMBER = 24
"""Bytes that reading one number takes: as it lies in the file, in float64, and once more while it is checked."""

NO_MEMORY = "can't allocate memory"
"""What torch says in a RuntimeError where others raise a MemoryError."""


def memory_for(size: int) -> int:
    """Bytes that reading and checking a file of `size` bytes may take.

    Raises:
        InputError: if the environment variable holds no whole number above zero.
    """
    given = os.environ.get(MEMORY)
    if given is None:
        return max(LEAST_MEMORY, PER_BYTE * size)
    if not (given.isascii() and given.isdigit() and len(given) < 20 and int(given) > 0):
        raise InputError(f"{MEMORY} must be a whole number of bytes above 0, got {given[:40]!r}")
    return int(given)


def seconds() -> float:
    """Seconds that reading a file may take.

    Raises:
        InputError: if the environment variable holds no number above zero.
    """
    given = os.environ.get(SECONDS)
    if given is None:
        return PATIENCE
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        raise InputError(f"{SECONDS} must be a number of seconds above 0, got {given[:40]!r}")
    return value


def check_memory(needed: int, size: int, what: str) -> None:
    """Raise `ArtifactError` if something takes more memory than a file of `size` bytes is allowed.

    Args:
        needed: bytes.
        size: of the file; 0 where there is none.
        what: the file and what in it takes the memory: "net.psm: its state".
    """
    allowed = memory_for(size)
    if needed > allowed:
        raise ArtifactError(
            f"{what} would take {spell(needed)} of memory, {spell(allowed)} are allowed; "
            f"if the file can be trusted, raise {MEMORY} (bytes)"
        )


def regular_size(path: str | Path, what: str = "") -> int:
    """Size in bytes of a file that can be read twice: no folder, pipe or device.

    Args:
        path: of the file.
        what: it is, for messages, with a blank behind it: "the recipe ".

    Raises:
        ArtifactError: if there is no such file, or it is anything else.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read {what}{path}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ArtifactError(f"cannot read {what}{path}: Is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(f"cannot read {what}{path}: it is no regular file; put what it gives into a file first")
    return found.st_size


def spell(count: int) -> str:
    """Bytes as people read them."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >> 60:
            break
        if count >> shift:
            return f"{count / (1 << shift):.1f} {unit}"
    return f"{count} bytes" if count < 1 << 60 else "more than 2^60 bytes"
