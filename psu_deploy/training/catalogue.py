"""The tasks that come with psu-deploy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from psu_deploy.models import digits as digits_model
from psu_deploy.training.data.digits import digits
from psu_deploy.training.samples import Samples, Split
from psu_deploy.training.tasks import Task


def digits_by_columns() -> Task:
    """Handwritten digits of scikit-learn, one column of 8 pixels per step."""
    return Task(
        read=_columns,
        steps=digits_model.STEPS,
        input_shape=digits_model.INPUT_SHAPE,
        classes=digits_model.CLASSES,
        network=digits_model.DigitsNet,
    )


def _columns(split: Split, folder: Path | None) -> Samples:
    x, labels = digits(split)
    return Samples(np.ascontiguousarray(x.swapaxes(0, 1)), labels)


CATALOGUE = {"digits": digits_by_columns}
"""Name -> function that makes the task; its arguments are the options."""
