"""N-MNIST as it is published: handwritten digits seen by a moving event camera of 34 x 34 pixels.

    Train/0 .. Train/9, Test/0 .. Test/9    with .bin files, or Train.zip, Test.zip with these folders

A file holds events of 40 bits: x (8), y (8), polarity (1), microseconds (23). An event with y = 240 says that the
clock has gone once around its lower 13 bits more.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psu_deploy.training.data.binning import Binning, Events
from psu_deploy.training.data.cache import Transform, kept
from psu_deploy.training.data.places import needed, nothing
from psu_deploy.training.data.recordings import ForeignError, each, recordings_of
from psu_deploy.training.data.splits import part
from psu_deploy.training.samples import Samples, Split

PIXELS = 34
CLASSES = 10
SOURCE = (
    "download Train.zip and Test.zip of https://www.garrickorchard.com/datasets/n-mnist into its folder, "
    "unpacked or not"
)

_EVENT = 5
_OVERFLOW = 240
_AROUND = 1 << 13


def n_mnist(binning: Binning, split: Split, folder: Path | None) -> Samples:
    """Counts (N, T, 2, 34, 34), polarity first, and labels (N,) of one split.

    One in ten recordings of every class of the published training split validates; the test split is as published.

    Args:
        binning: how events become steps; "causal" from the start of the recording on.
        split: which part.
        folder: where the files are.

    Raises:
        InputError: if the data is not there.
        ArtifactError: if it is damaged or is something else.
    """
    folder = needed(folder, "n-mnist", SOURCE)
    published = "Test" if split == "test" else "Train"
    classes = [f"{published}/{label}" for label in range(CLASSES)]
    found = recordings_of(folder, classes, [f"{published.lower()}.zip"] * CLASSES, ".bin")
    if not found:
        raise nothing(folder, "n-mnist", SOURCE)
    labels = np.array([recording.label for recording in found], np.int64)
    chosen = np.arange(len(found)) if split == "test" else part(split, labels)
    wanted = [found[row] for row in chosen]
    sources = list(dict.fromkeys(recording.source for recording in wanted))
    transform = Transform(f"n-mnist-{split}", binning.options, (binning.steps, 2, PIXELS, PIXELS), np.uint8)
    counts = kept(transform, sources, len(wanted), lambda: each(wanted, partial(_counts, binning)))
    return Samples(counts, labels[chosen])


def _counts(binning: Binning, content: bytes) -> NDArray[np.uint8]:
    return binning.counts(events_of(content), 2 * PIXELS**2).reshape(binning.steps, 2, PIXELS, PIXELS)


def events_of(content: bytes) -> Events:
    """Events of one file; the place is (polarity * 34 + y) * 34 + x.

    Raises:
        ForeignError: if it is no such file.
    """
    if not content or len(content) % _EVENT:
        raise ForeignError(f"{len(content)} bytes are no events of {_EVENT} bytes")
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, _EVENT).T.astype(np.int64)
    overflow = y == _OVERFLOW
    times = ((high & 127) << 16 | middle << 8 | low) + _AROUND * np.cumsum(overflow)
    x, y, polarity, times = (values[~overflow] for values in (x, y, high >> 7, times))
    if (x >= PIXELS).any() or (y >= PIXELS).any():
        raise ForeignError(f"events outside of {PIXELS} x {PIXELS} pixels")
    return Events(times, (polarity * PIXELS + y) * PIXELS + x)
