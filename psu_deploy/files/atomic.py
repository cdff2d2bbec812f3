"""Files appear whole or not at all, and a file that was there is never lost for one that cannot be written."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError, InternalError
from psu_deploy.files.temporaries import LOCK, for_each_leftover, temporary_folder

_REMEDIES = {
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some of your quota, or name a place on another disk",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f` shows it)",
}
"""What to do about a place that took only a part of the file."""

_CANNOT_FLUSH = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EISDIR}
"""Of a folder: it may not be opened, or its file system does not flush folders."""


@contextmanager
def atomic_path(path: str | Path, others: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary path in a folder beside `path`; rename it into place if the block succeeds, else remove it.

    Missing parent folders are made. The temporary file has the same name. It is flushed to the disk before it is
    renamed, and its folder after it: whenever a process or a machine stops, `path` is the old file or the new one.
    Two writers of one path are safe: each file is whole, and the last one stays. What a killed writer of the same path
    left is removed.

    Args:
        path: file to write.
        others: names of files that belong to it, which the block writes beside the temporary path. They are renamed
            after it, one behind the other; who is killed in between leaves the rest where `complete` finds it.

    Raises:
        ArtifactError: if the folder or a file cannot be written.
    """
    target = Path(path)
    try:
        for place in (target, *(target.with_name(name) for name in others)):
            if place.is_dir():
                raise ArtifactError(f"cannot write {place}: it is a folder; name a file in it")
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent, target.name) as folder:
            temporary = folder / target.name
            temporary.touch()
            yield temporary
            if not temporary.stat().st_size:
                raise InternalError(f"nothing was written to {temporary}, which is the place for what becomes {target}")
            written = [temporary, *(folder / name for name in others)]
            for file in written:
                _flush(file)
                file.chmod(0o666 & ~_umask())
            for file in written:
                file.replace(target.with_name(file.name))
        _flush_folder(target.parent)
    except OSError as error:
        raise ArtifactError(_sentence(target, error)) from error


def complete(path: Path, is_rest: Callable[[Path], bool]) -> None:
    """Rename what belongs to a file and was not renamed yet when its writer was killed; a living one is waited for.

    Args:
        path: the file that was renamed first.
        is_rest: whether a folder holds the last of the files that belong to this very one.
    """

    def finish(folder: Path) -> bool:
        if (folder / path.name).exists() or not is_rest(folder):
            return False
        for file in folder.iterdir():
            if file.name != LOCK:
                file.replace(path.with_name(file.name))
        _flush_folder(path.parent)
        return True

    for_each_leftover(path.parent, path.name, finish)


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file, whole or not at all.

    Raises:
        ArtifactError: if the folder or the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def as_npy(array: NDArray[Any]) -> bytes:
    """What `np.save` writes. To a full disk, it would not say what is wrong."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def as_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """What `np.savez` writes, and it takes any names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", as_npy(array))
    return buffer.getvalue()


def _sentence(target: Path, error: OSError) -> str:
    said, remedy = f"cannot write {target}: {error.strerror or error}", _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return said
    before = "the file that was there is as it was" if target.is_file() else "nothing was written"
    return f"{said}; {before}; {remedy}"


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    """Make a rename last; where a folder cannot be flushed, the system does it when it likes."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
