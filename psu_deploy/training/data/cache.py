"""What recordings become is kept: an .npy file of all samples of a split, of which only what is looked at is read.

    <cache>/frames/<name>-<transform>-<sources>.npy

<cache> is that of `files.cache`. `transform` is a hash of what was done and with which options, `sources` one of the
files it was done to: other data or another option is another file. A file appears whole or not at all, so a process
may be killed and two may write at once; one that is too short, or of another shape, is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from psu_deploy.errors import ArtifactError
from psu_deploy.files.atomic import atomic_path
from psu_deploy.files.cache import cache_folder, is_private

VERSION = 1
"""Of all transforms together; another number makes every file anew."""

MANY = 1000
"""Samples that take long enough for a progress bar."""

_HASHED = 1 << 30
"""Bytes of sources that are worth the time to read them for a hash; of more, name, size and time of change count."""


@dataclass(frozen=True)
class Transform:
    """What is done to the recordings of a split.

    Args:
        name: of the result, for its file and for the progress bar: "shd-train".
        options: all that the result depends on beside the recordings.
        shape: of one sample.
        dtype: of its numbers.
    """

    name: str
    options: Mapping[str, int | float | str]
    shape: tuple[int, ...]
    dtype: DTypeLike


def kept(
    transform: Transform, sources: Sequence[Path], count: int, samples: Callable[[], Iterable[NDArray[Any]]]
) -> NDArray[Any]:
    """All samples (count, *shape), from the cache if they are in it, else made and kept.

    Args:
        transform: what is done.
        sources: the files it is done to.
        count: number of samples.
        samples: makes them, one after the other.

    Returns:
        A memory map that is not to be written to; where nothing is kept, an array.

    Raises:
        ArtifactError: if the file cannot be written.
    """
    folder = _folder()
    if folder is None:
        return np.stack(list(_checked(transform, count, samples())))
    begins = f"{transform.name}-{_hash(_described(transform))}-"
    path = folder / f"{begins}{_hash(_fingerprint(sources))}.npy"
    found = _opened(path, transform, count)
    if found is None:
        _write(path, transform, count, samples())
        _remove_others(path, begins)
        found = _opened(path, transform, count)
    if found is None:
        raise ArtifactError(f"{path} was written and is gone or damaged already; is something else writing there?")
    return found


def _folder() -> Path | None:
    folder = cache_folder("frames")
    if folder is None:
        return None
    with suppress(OSError):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        return folder if is_private(folder) else None
    return None


def _described(transform: Transform) -> Any:
    return [VERSION, dict(transform.options), transform.shape, np.dtype(transform.dtype).str]


def _fingerprint(sources: Sequence[Path]) -> Any:
    stats = [source.stat() for source in sources]
    if sum(found.st_size for found in stats) > _HASHED or len(sources) > MANY:
        pairs = zip(sources, stats, strict=True)
        return [[source.parent.name, source.name, found.st_size, found.st_mtime_ns] for source, found in pairs]
    return [[source.parent.name, source.name, _digest(source)] for source in sources]


def _digest(source: Path) -> str:
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def _opened(path: Path, transform: Transform, count: int) -> NDArray[Any] | None:
    """The file, if it holds what it should."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        ends = path.stat().st_size
    except (OSError, ValueError, EOFError):
        return None
    fits = (array.shape, array.dtype) == ((count, *transform.shape), np.dtype(transform.dtype))
    whole = isinstance(array, np.memmap) and array.offset + array.nbytes == ends
    return array if fits and whole else None


def _write(path: Path, transform: Transform, count: int, samples: Iterable[NDArray[Any]]) -> None:
    """Sample by sample: a memory map on a full disk would end the process."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(transform.dtype)),
        "fortran_order": False,
        "shape": (count, *transform.shape),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for sample in _checked(transform, count, samples):
            file.write(sample.tobytes())


def _checked(transform: Transform, count: int, samples: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for sample in _shown(transform.name, count, samples):
        assert (sample.shape, sample.dtype) == (transform.shape, np.dtype(transform.dtype))
        yield sample


def _shown(name: str, count: int, samples: Iterable[NDArray[Any]]) -> Iterable[NDArray[Any]]:
    """With a progress bar on stderr, where somebody looks and it takes time."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if count < MANY or not console.is_terminal:
        return samples
    return track(samples, f"{name}: {count} recordings", total=count, console=console, transient=True)


def _remove_others(path: Path, begins: str) -> None:
    """What was made of other data by the same transform; who still reads it keeps it until it is done."""
    for other in path.parent.glob(f"{begins}*.npy"):
        if other != path:
            other.unlink(missing_ok=True)
