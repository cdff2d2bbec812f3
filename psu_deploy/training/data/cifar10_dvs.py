"""CIFAR10-DVS as it is published: images of CIFAR-10 that move in front of an event camera of 128 x 128 pixels.

    airplane/ .. truck/    with cifar10_airplane_0.aedat .., or airplane.zip .. truck.zip with these folders

A file is AEDAT 2.0: lines that begin with #, then 8 bytes an event, an address and microseconds, high byte first. The
address holds y (7 bits), x (7 bits) and polarity (1 bit) of a camera that lay on its side.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from psu_deploy.training.data.binning import Binning, Events
from psu_deploy.training.data.cache import Transform, kept
from psu_deploy.training.data.places import needed, nothing
from psu_deploy.training.data.recordings import ForeignError, Recording, each, recordings_of
from psu_deploy.training.data.splits import part
from psu_deploy.training.samples import Samples, Split

PIXELS = 128
SIZE = 48
"""Height and width that frames are made, as in the paper."""

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SOURCE = (
    "download airplane.zip to truck.zip of https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 into its "
    "folder, unpacked or not; they hold .aedat files"
)

_BEGINS = b"#!AER-DAT2.0"
_TENTHS = 9
"""Of every class, the first nine tenths are for training, the last is the test split."""


def cifar10_dvs(binning: Binning, split: Split, folder: Path | None) -> Samples:
    """Frames (N, T, 2, 48, 48), polarity first, and labels (N,) of one split.

    A frame is the counts of 128 x 128 pixels, made smaller bilinearly with corners aligned, as in arXiv 2402.00449.
    The set is published without a test split. As there, the first 90 % of every class, by the numbers of the files,
    are for training; one in ten of these validates. (The authors select on the test split.)

    Args:
        binning: how events become steps; "causal" from the first event on.
        split: which part.
        folder: where the files are.

    Raises:
        InputError: if the data is not there.
        ArtifactError: if it is damaged or is something else.
    """
    folder = needed(folder, "cifar10-dvs", SOURCE)
    found = recordings_of(folder, NAMES, [f"{name}.zip" for name in NAMES], ".aedat")
    if not found:
        other = next(folder.rglob("*.aedat4"), None)
        raise nothing(folder, "cifar10-dvs", SOURCE, *([".aedat4 files, which are not read"] if other else []))
    wanted = _part(split, found)
    sources = list(dict.fromkeys(recording.source for recording in wanted))
    transform = Transform(f"cifar10-dvs-{split}", binning.options, (binning.steps, 2, SIZE, SIZE), np.float32)
    frames = kept(transform, sources, len(wanted), lambda: each(wanted, partial(_frames, binning)))
    return Samples(frames, _labels(wanted))


def _part(split: Split, found: list[Recording]) -> list[Recording]:
    labels = _labels(found)
    train, test = [], []
    for label in range(len(NAMES)):
        rows = np.flatnonzero(labels == label)
        most = len(rows) * _TENTHS // 10
        train.append(rows[:most])
        test.append(rows[most:])
    rows = np.concatenate(test if split == "test" else train)
    chosen = rows if split == "test" else rows[part(split, labels[rows])]
    return [found[row] for row in chosen]


def _labels(recordings: list[Recording]) -> NDArray[np.int64]:
    return np.array([recording.label for recording in recordings], np.int64)


def _frames(binning: Binning, content: bytes) -> NDArray[Any]:
    counts = binning.counts(events_of(content), 2 * PIXELS**2, np.uint16)
    frames = torch.from_numpy(counts.astype(np.float32).reshape(binning.steps, 2, PIXELS, PIXELS))
    return F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=True).numpy()


def events_of(content: bytes) -> Events:
    """Events of one file, from its first event on; the place is (polarity * 128 + y) * 128 + x.

    Raises:
        ForeignError: if it is no such file.
    """
    if not content.startswith(_BEGINS):
        raise ForeignError(f"it does not begin with {_BEGINS.decode()}")
    begin = 0
    while content[begin : begin + 1] == b"#":
        begin = content.find(b"\n", begin) + 1 or len(content)
    if begin == len(content) or (len(content) - begin) % 8:
        raise ForeignError(f"{len(content) - begin} bytes are no events of 8 bytes")
    address, times = np.frombuffer(content, ">u4", offset=begin).reshape(-1, 2).T.astype(np.int64)
    x, y, on = 127 - (address >> 8 & 127), 127 - (address >> 1 & 127), 1 - (address & 1)
    return Events(times - times.min(), (on * PIXELS + y) * PIXELS + x)
