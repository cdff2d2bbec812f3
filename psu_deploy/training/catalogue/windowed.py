"""Images in windows, for the network of arXiv 2401.10843: the steps of its machine are the windows of one image."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from psu_deploy.models import WindowedSNN, windows
from psu_deploy.training.catalogue.images import cifar_task
from psu_deploy.training.data.digits import digits
from psu_deploy.training.samples import Samples, Split
from psu_deploy.training.tasks import Task

WINDOWS = 4
"""Quarters of an image."""


def windowed_digits(spiking: bool = True) -> Task:
    """Handwritten digits, one quarter per step."""
    network = partial(WindowedSNN, image_channels=1, size=8, patch=1, dims=(16, 32), depths=(1, 1), spiking=spiking)
    return Task(_images, WINDOWS, (1, 4, 4), 10, network, _quarters)


def windowed_cifar10(spiking: bool = True, normalise: str = "cifar10") -> Task:
    """CIFAR-10, one quarter of an image per step."""
    network = partial(WindowedSNN, spiking=spiking)
    return cifar_task("windowed-cifar10", 10, WINDOWS, (3, 16, 16), network, normalise, windows)


def _images(split: Split, folder: Path | None) -> Samples:
    columns, labels = digits(split)
    return Samples(np.ascontiguousarray(columns.transpose(1, 2, 0)[:, None]), labels)


def _quarters(images: Tensor) -> Tensor:
    return windows(images.float())
