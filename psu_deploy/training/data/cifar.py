"""CIFAR-10 and CIFAR-100 as they are published: 32 x 32 colour images, in archives of pickles or of plain bytes.

    cifar-10-python.tar.gz   or cifar-10-batches-py/    data_batch_1 .. data_batch_5, test_batch
    cifar-10-binary.tar.gz   or cifar-10-batches-bin/   data_batch_1.bin .. data_batch_5.bin, test_batch.bin
    cifar-100-python.tar.gz  or cifar-100-python/       train, test
    cifar-100-binary.tar.gz  or cifar-100-binary/       train.bin, test.bin

Archives are read in memory, nothing is unpacked to the disk. The pickles are not executed (`pickles`).
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError
from psu_deploy.files.limits import check_memory
from psu_deploy.training.data.pickles import ForeignError, read_dictionary
from psu_deploy.training.data.places import needed, nothing
from psu_deploy.training.data.splits import part
from psu_deploy.training.samples import Samples, Split

IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

SOURCES = {
    10: "download https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into its folder, unpacked or not",
    100: "download https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz into its folder, unpacked or not",
}

Classes = Literal[10, 100]
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Layout:
    """One way in which a set is published.

    Args:
        archive: its file.
        inside: the folder in it.
        train: files of the training split.
        test: of the test split.
        decode: content of one file -> images (N, 3072) and labels (N,).
    """

    archive: str
    inside: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    decode: Callable[[bytes], Batch]


def cifar(classes: Classes, task: str, split: Split, folder: Path | None) -> Samples:
    """Images (N, 3, 32, 32) of bytes and labels (N,) of one split.

    One in ten images of every class of the published training split validates; the test split is as it is published.

    Args:
        classes: 10 or 100.
        task: name of the task that asks, for messages.
        split: which part.
        folder: where the archive is, or what was in it.

    Raises:
        InputError: if the data is not there.
        ArtifactError: if a file is damaged, or is no batch of this set.
    """
    folder = needed(folder, task, SOURCES[classes])
    images, labels = _published(classes, task, split == "test", folder)
    chosen = slice(None) if split == "test" else part(split, labels)
    return Samples(images[chosen].reshape(-1, *IMAGE_SHAPE), labels[chosen])


def _published(classes: Classes, task: str, test: bool, folder: Path) -> Batch:
    for layout in _LAYOUTS[classes]:
        names = layout.test if test else layout.train
        for place in (folder / layout.inside, folder):
            if (place / names[0]).is_file():
                return _joined(layout, classes, _files(place, names))
        if (folder / layout.archive).is_file():
            return _joined(layout, classes, _members(folder / layout.archive, layout.inside, names))
    raise nothing(folder, task, SOURCES[classes])


def _joined(layout: _Layout, classes: int, files: Iterator[tuple[str, bytes]]) -> Batch:
    images, labels = [], []
    for where, content in files:
        try:
            batch = layout.decode(content)
            _check(*batch, classes)
        except ForeignError as error:
            raise ArtifactError(
                f"{where} is damaged or no batch of CIFAR-{classes}: {error}; fetch it again"
            ) from error
        images.append(batch[0])
        labels.append(batch[1])
    return np.concatenate(images), np.concatenate(labels)


def _files(place: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            yield str(place / name), (place / name).read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {place / name}: {error.strerror or error}") from error


def _members(archive: Path, inside: str, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """In the order of the names, whatever the order in the archive; that is read once."""
    wanted, found = {f"{inside}/{name}": name for name in names}, {}
    size = archive.stat().st_size
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = wanted.get(member.name.removeprefix("./"))
                if name is not None and member.isreg():
                    check_memory(len(names) * member.size, size, f"{archive}: {member.name}")
                    found[name] = tar.extractfile(member).read()  # type: ignore[union-attr]  # of a regular file
            while tar.fileobj is not None and tar.fileobj.read(1 << 20):
                pass  # at its very end stands a checksum
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ArtifactError(f"{archive} is truncated or damaged: {error}; fetch it again") from error
    for name in names:
        if name not in found:
            raise ArtifactError(
                f"{archive} is not what is published: there is no {inside}/{name} in it; fetch it again"
            )
        yield f"{archive}: {inside}/{name}", found[name]


def _check(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> None:
    if images.ndim != 2 or images.shape[1] != _PIXELS or len(images) != len(labels) or not len(labels):
        raise ForeignError(f"{images.shape} pixels and {len(labels)} labels, expected (N, {_PIXELS}) and N")
    if labels.min() < 0 or labels.max() >= classes:
        raise ForeignError(f"labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")


def _pickled(key: str) -> Callable[[bytes], Batch]:
    def decode(content: bytes) -> Batch:
        found = read_dictionary(content)
        images, labels = found.get("data"), found.get(key)
        if not isinstance(images, np.ndarray) or not isinstance(labels, list):
            raise ForeignError(f"it has no 'data' and {key!r}")
        if not all(type(label) is int and abs(label) < 1000 for label in labels):
            raise ForeignError("labels that are no small whole numbers")
        return images, np.array(labels, np.int64)

    return decode


def _plain(before: int) -> Callable[[bytes], Batch]:
    """Rows of so many bytes with the label last, then the pixels."""

    def decode(content: bytes) -> Batch:
        if not content or len(content) % (before + _PIXELS):
            raise ForeignError(f"{len(content)} bytes are no rows of {before + _PIXELS}")
        rows = np.frombuffer(content, np.uint8).reshape(-1, before + _PIXELS)
        return rows[:, before:], rows[:, before - 1].astype(np.int64)

    return decode


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

_LAYOUTS: dict[Classes, tuple[_Layout, ...]] = {
    10: (
        _Layout("cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, ("test_batch",), _pickled("labels")),
        _Layout(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            tuple(f"{name}.bin" for name in _BATCHES),
            ("test_batch.bin",),
            _plain(1),
        ),
    ),
    100: (
        _Layout("cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), _pickled("fine_labels")),
        _Layout("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), ("test.bin",), _plain(2)),
    ),
}
