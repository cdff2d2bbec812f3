"""Spiking Heidelberg Digits as they are published: spoken digits as spikes of 700 units, in two HDF5 files.

shd_train.h5, shd_test.h5    or with .gz behind, as downloaded
    spikes/times   (N,) of (n,) seconds        spikes/units   (N,) of (n,) numbers below 700
    labels         (N,) below 20
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError
from psu_deploy.files.hdf5 import read_groups
from psu_deploy.files.limits import check_memory
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
    with _unpacked(source) as path:
        labels = _checked_labels(source, _read(path, source, "labels"))
        chosen = np.arange(len(labels)) if split == "test" else part(split, labels)
        transform = Transform(f"shd-{split}", binning.options, (binning.steps, UNITS), np.uint8)
        counts = kept(transform, [source], len(chosen), lambda: _counts(binning, path, source, chosen, len(labels)))
    return Samples(counts, labels[chosen])


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """The HDF5 file, of what is packed a temporary one; the checksum at its end has been seen."""
    if source.suffix != ".gz":
        yield source
        return
    size = source.stat().st_size
    with TemporaryDirectory() as folder:
        path = Path(folder) / source.stem
        try:
            with gzip.open(source) as packed, path.open("wb") as file:
                while piece := packed.read(1 << 20):
                    check_memory(file.tell() + len(piece), size, f"{source}: what is in it")
                    file.write(piece)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(source, str(error)) from error
        except OSError as error:
            raise ArtifactError(f"cannot unpack {source} to {folder}: {error.strerror or error}") from error
        yield path


def _read(path: Path, source: Path, name: str) -> Any:
    try:
        return read_groups(path, (name,), "SHD", "train", ragged=True)[name]
    except ArtifactError as error:
        raise ArtifactError(f"{str(error).replace(str(path), str(source))}; fetch it again") from error


def _damaged(source: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{source} is truncated, damaged or not of SHD: {reason}; fetch it again")


def _checked_labels(source: Path, labels: Any) -> NDArray[np.int64]:
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise _damaged(source, "labels are no whole numbers")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise _damaged(source, f"labels are not from 0 to {CLASSES - 1}")
    return labels.astype(np.int64)


def _counts(
    binning: Binning, path: Path, source: Path, chosen: NDArray[np.int64], count: int
) -> Iterator[NDArray[np.uint8]]:
    spikes = _read(path, source, "spikes")
    found: dict[str, Any] = spikes if isinstance(spikes, dict) else {}
    times, units = (np.asarray(found.get(name)) for name in ("times", "units"))
    if times.shape != (count,) or units.shape != (count,):
        raise _damaged(source, f"there are not times and units for {count} labels")
    return (_counted(binning, source, int(row), times[row], units[row]) for row in chosen)


def _counted(binning: Binning, source: Path, row: int, times: Any, units: Any) -> NDArray[np.uint8]:
    try:
        return binning.counts(_events(times, units, binning.kind == "paper"), UNITS)
    except (CrowdedError, _NotSHDError) as error:
        raise _damaged(source, f"recording {row}: {error}") from error


class _NotSHDError(Exception):
    """What no recording of SHD holds; the message says what."""


def _events(times: Any, units: Any, cut: bool) -> Events:
    if not isinstance(times, np.ndarray) or not isinstance(units, np.ndarray) or units.dtype.kind not in "iu":
        raise _NotSHDError("units are no rows of whole numbers, or times are no rows")
    seconds, places = times.astype(np.float64), units.astype(np.int64)
    if seconds.ndim != 1 or seconds.shape != places.shape or not ((seconds >= 0) & (seconds < LONGEST)).all():
        raise _NotSHDError(f"no time from 0 to {LONGEST} seconds for every unit")
    if ((places < 0) | (places >= UNITS)).any():
        raise _NotSHDError(f"units that are not from 0 to {UNITS - 1}")
    when = (seconds * 1e6).astype(np.int64)
    if not cut:
        return Events(when, places)
    early = when <= ENDS
    if not early.all():
        return Events(when[early], places[early])
    return Events(np.append(when, ENDS), np.append(places, 0))  # the last event is in no bin, wherever it is
