"""Data sets of one file per recording, one folder per class: as they were unpacked, or as the .zip they came in."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError
from psu_deploy.files.limits import check_memory
from psu_deploy.training.data.binning import CrowdedError


class ForeignError(Exception):
    """A file that is no recording of this set; the message says why."""


@dataclass(frozen=True)
class Recording:
    """One recording.

    Args:
        label: its class.
        name: of the file; of one in an archive with the folders there.
        source: the file, or the archive that it is in.
    """

    label: int
    name: str
    source: Path


def recordings_of(folder: Path, classes: Sequence[str], archives: Sequence[str], suffix: str) -> list[Recording]:
    """All recordings, class by class, in the order of the numbers in their names; none where there is none.

    Args:
        folder: where the folders of the classes are, or the archives.
        classes: the folder of every class, here or in an archive: "Train/0".
        archives: the archive that may hold a class, one for every class, in small letters: "train.zip".
        suffix: of a recording: ".bin".

    Raises:
        ArtifactError: if some classes are there and others are not, or an archive is damaged.
    """
    packed = {path.name.lower(): path for path in folder.iterdir() if path.suffix == ".zip"}
    names = {name: _names(packed[name]) for name in dict.fromkeys(archives) if name in packed}
    found: list[Recording] = []
    missing = []
    for label, (inside, archive) in enumerate(zip(classes, archives, strict=True)):
        named = [(path.name, path) for path in _files(folder / inside)]
        named = named or [(name, packed[archive]) for name in names.get(archive, ()) if name.startswith(f"{inside}/")]
        named = [(name, source) for name, source in named if name.endswith(suffix)]
        found += [Recording(label, name, source) for name, source in sorted(named, key=_number)]
        missing += [] if named else [inside]
    if found and missing:
        raise ArtifactError(f"{folder} is not complete: no {suffix} files in {', '.join(missing)}; fetch it again")
    return found


def each(recordings: Sequence[Recording], count: Callable[[bytes], NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """What is counted in one recording after the other.

    Args:
        recordings: of one archive beside each other: it is opened once.
        count: content of a file -> counts.

    Raises:
        ArtifactError: if a recording cannot be read, or is something else.
    """
    for where, content in _contents(recordings):
        try:
            yield count(content)
        except (ForeignError, CrowdedError) as error:
            raise ArtifactError(f"{where} is damaged or no such recording: {error}; fetch it again") from error


def _contents(recordings: Sequence[Recording]) -> Iterator[tuple[str, bytes]]:
    for source, group in groupby(recordings, key=lambda recording: recording.source):
        where = str(source)
        try:
            if source.suffix != ".zip":
                yield where, source.read_bytes()
                continue
            with zipfile.ZipFile(source) as archive:
                for recording in group:
                    where = f"{source}: {recording.name}"
                    size = archive.getinfo(recording.name).file_size
                    check_memory(size, source.stat().st_size, where)
                    yield where, archive.read(recording.name)
        except _UNREADABLE as error:
            raise ArtifactError(f"cannot read {where}: {error}; fetch it again") from error


_UNREADABLE = (OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises, encrypted or strangely packed archives included."""


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def _names(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as found:
            return found.namelist()
    except _UNREADABLE as error:
        raise ArtifactError(f"{archive} is truncated or damaged: {error}; fetch it again") from error


def _number(named: tuple[str, Path]) -> tuple[int, str]:
    digits = re.findall(r"\d+", named[0].rpartition("/")[2])
    return int(digits[-1]) if digits else -1, named[0]
