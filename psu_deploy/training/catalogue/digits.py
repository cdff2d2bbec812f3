"""Handwritten digits of scikit-learn, which need not be fetched."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from psu_deploy.models import digits as model
from psu_deploy.training.data.digits import digits
from psu_deploy.training.samples import Samples, Split
from psu_deploy.training.tasks import Task

PIXELS = 64


def digits_by_columns() -> Task:
    """One column of 8 pixels per step."""
    return Task(
        read=_columns,
        steps=model.STEPS,
        input_shape=model.INPUT_SHAPE,
        classes=model.CLASSES,
        network=model.DigitsNet,
    )


def digits_by_pixels() -> Task:
    """One pixel per step, row by row: 64 steps, of which the network has to remember most."""
    return Task(
        read=_pixels,
        steps=PIXELS,
        input_shape=(1,),
        classes=model.CLASSES,
        network=partial(model.DigitsNet, T=PIXELS, inputs=1),
    )


def _columns(split: Split, folder: Path | None) -> Samples:
    x, labels = digits(split)
    return Samples(np.ascontiguousarray(x.swapaxes(0, 1)), labels)


def _pixels(split: Split, folder: Path | None) -> Samples:
    x, labels = digits(split)
    return Samples(x.transpose(1, 2, 0).reshape(-1, PIXELS, 1), labels)
