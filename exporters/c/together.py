"""The files of an export belong together: `net.c` is renamed first, and says which the others are.

Whoever is killed before that leaves the old files; afterwards, some of the new ones where they were written. They are
found there by their hashes, and moved on, when the set is opened or written the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.exporters.c.header import metadata_in
from psu_deploy.exporters.c.reading import read_source
from psu_deploy.exporters.c.sources import names_of, page_of
from psu_deploy.exporters.integers.pipeline import report_path
from psu_deploy.files.atomic import atomic_path, complete
from psu_deploy.files.temporaries import LOCK

R = TypeVar("R")


@contextmanager
def written_together(path: Path, sources: Mapping[str, bytes], beside: Mapping[str, bytes]) -> Iterator[Path]:
    """Write all files; the block looks at them under the temporary path that it gets, and then they are in place.

    Args:
        path: of `net.c`.
        sources: name -> content of what it knows the hashes of, itself among them.
        beside: name -> content of the page, and of what else is there for people.

    Raises:
        InputError: if the header or the page would replace a file of somebody else.
        ArtifactError: if a file cannot be written.
    """
    _check_free(path)
    _complete(path)  # what a killed writer left is gone as soon as there is a new one, which may fail
    others = [*beside, *(name for name in sources if name != path.name)]
    with atomic_path(path, others) as temporary:
        for name, content in {**beside, **sources}.items():
            (temporary.parent / name).write_bytes(content)
        yield temporary


def settled(path: Path, read: Callable[[], R]) -> R:
    """What reading the files gives; if they do not fit, once more, after what a killed writer left is in place."""
    try:
        return read()
    except ArtifactError:
        _complete(path)
    return read()


def _complete(path: Path) -> None:
    complete(path, lambda folder: _is_rest(path, folder))


def _is_rest(path: Path, folder: Path) -> bool:
    """Whether a folder holds the rest of the export that `net.c` is of: the numbers, which are moved last, and no more.

    Every source must have the hash that `net.c` says. It knows none of the files for people, which nobody compiles.
    """
    try:
        said = metadata_in(path, read_source(path))["files"]
        numbers = next(name for name in names_of(path, "c")[2:] + names_of(path, "bin")[2:] if name in said)
        left = {file.name: file for file in folder.iterdir() if file.name != LOCK}
        sources = left.keys() - {page_of(path), report_path(path).name}
        fit = all(sha256(read_source(left[name])).hexdigest() == said[name] for name in sources)
        return numbers in sources and fit
    except (ArtifactError, OSError, LookupError, TypeError, StopIteration):
        return False


_OURS = {".h": b"#ifndef PSU_DEPLOY_", ".md": b" as a serial state machine"}
"""What every file of ours with a name that others may well have holds."""


def _check_free(path: Path) -> None:
    """Raise `InputError` if there is a file of somebody else that the caller has not named."""
    for suffix, mark in _OURS.items():
        file = path.with_suffix(suffix)
        if file.is_file() and mark not in read_source(file):
            raise InputError(
                f"an export to {path} writes {file.name} as well, and there is one that psu-deploy has not written; "
                "choose another name, or another folder"
            )
