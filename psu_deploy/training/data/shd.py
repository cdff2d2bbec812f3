"""Spiking Heidelberg Digits as they are published: spoken digits as spikes of 700 units, in two HDF5 files.

shd_train.h5, shd_test.h5    or with .gz behind, as downloaded
    spikes/times   (N,) of (n,) seconds        spikes/units   (N,) of (n,) numbers below 700
    labels         (N,) below 20
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError, require
from psu_deploy.files.limits import check_memory, memory_for
from psu_deploy.training.data.binning import Binning, CrowdedError, Events
from psu_deploy.training.data.cache import Transform, kept
from psu_deploy.training.data.places import needed, nothing
from psu_deploy.training.data.splits import part
from psu_deploy.training.samples import Samples, Split

UNITS = 700
CLASSES = 20
ENDS = 900_000
"""Microseconds, of a recording that is binned as in the paper."""

LONGEST = 3600
"""Seconds that a recording may take; the real ones take less than two."""

SOURCE = (
    "download https://zenkelab.org/datasets/shd_train.h5.gz and https://zenkelab.org/datasets/shd_test.h5.gz into its "
    "folder, unpacked or not"
)


def shd(binning: Binning, split: Split, folder: Path | None) -> Samples:
    """Counts (N, T, 700) and labels (N,) of one split.

    One in ten recordings of every class of the published training split validates; the test split, with speakers that
    the training split does not have, is as it is published.

    With "paper", a recording is first cut at 900 ms, or gets a last event there; as in the authors' code.

    Args:
        binning: how spikes become steps.
        split: which part.
        folder: where the files are.

    Raises:
        InputError: if the data is not there.
        ArtifactError: if a file is damaged or is something else.
    """
    folder = needed(folder, "shd", SOURCE)
    name = "shd_test.h5" if split == "test" else "shd_train.h5"
    source = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if source is None:
        raise nothing(folder, "shd", SOURCE)
    with _opened(source) as file:
        labels = _labels(file)
        chosen = np.arange(len(labels)) if split == "test" else part(split, labels)
        transform = Transform(f"shd-{split}", binning.options, (binning.steps, UNITS), np.uint8)
        counts = kept(transform, [source], len(chosen), lambda: _counts(binning, file, chosen))
    return Samples(counts, labels[chosen])


@contextmanager
def _opened(source: Path) -> Iterator[Any]:
    h5py = require("h5py", extra="train")
    try:
        with h5py.File(_content(source) if source.suffix == ".gz" else source, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, RuntimeError, _NotSHDError, CrowdedError) as error:
        reason = str(error).partition("\n")[0].strip("'\"")
        raise ArtifactError(f"{source} is truncated, damaged or not of SHD: {reason}; fetch it again") from error


class _NotSHDError(Exception):
    """HDF5, but not what is published; the message says why."""


def _content(source: Path) -> io.BytesIO:
    """What is packed; the checksum at its end has been seen."""
    size = source.stat().st_size
    try:
        with gzip.open(source) as file:
            content = file.read(memory_for(size))
            check_memory(len(content) + len(file.read(1)), size, f"{source}: what is in it")
    except (EOFError, zlib.error) as error:
        raise _NotSHDError(str(error)) from error
    return io.BytesIO(content)


def _labels(file: Any) -> NDArray[np.int64]:
    labels: NDArray[Any] = file["labels"][()]
    rows = {file[name].shape for name in ("spikes/times", "spikes/units", "labels")}
    if rows != {(len(labels),)} or labels.dtype.kind not in "iu":
        raise _NotSHDError("times, units and labels are not as many")
    if not len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise _NotSHDError(f"labels are not from 0 to {CLASSES - 1}")
    return labels.astype(np.int64)


def _counts(binning: Binning, file: Any, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    times, units = file["spikes/times"][()], file["spikes/units"][()]
    cut = binning.kind == "paper"
    return (binning.counts(_events(times[row], units[row], int(row), cut), UNITS) for row in chosen)


def _events(times: Any, units: Any, row: int, cut: bool) -> Events:
    seconds, places = np.asarray(times, np.float64), np.asarray(units, np.int64)
    if seconds.shape != places.shape or not ((seconds >= 0) & (seconds < LONGEST)).all():
        raise _NotSHDError(f"recording {row} has no time from 0 to {LONGEST} seconds for every unit")
    if ((places < 0) | (places >= UNITS)).any():
        raise _NotSHDError(f"recording {row} has units that are not from 0 to {UNITS - 1}")
    when = (seconds * 1e6).astype(np.int64)
    if not cut:
        return Events(when, places)
    early = when <= ENDS
    if not early.all():
        return Events(when[early], places[early])
    return Events(np.append(when, ENDS), np.append(places, 0))  # the last event is in no bin, wherever it is
