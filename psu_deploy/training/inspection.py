"""Whether a task is what it says, looked at before anything is trained or written."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch

from psu_deploy.errors import InputError, PsuDeployError
from psu_deploy.training.packing import unseeded_network
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.samples import Samples, Split
from psu_deploy.training.tasks import Task

_ROWS = 1024
"""Looked at together; a memory map is not read whole."""


def inspect_task(recipe: Recipe, folder: Path | None) -> None:
    """Read every split, and run two samples through the network.

    Raises:
        InputError: if the data set is not there, or samples, labels or the network are not what the task says.
    """
    task = recipe.make_task()
    for split in get_args(Split):
        samples = _read(recipe, task, split, folder)
        _check_labels(f"{split} labels of the task {recipe.task}", samples, task)
        _check_finite(f"{split} samples of the task {recipe.task}", samples)
    _check_network(recipe, task, _read(recipe, task, "train", folder))


def _read(recipe: Recipe, task: Task, split: Split, folder: Path | None) -> Samples:
    try:
        samples = task.read(split, folder)
    except PsuDeployError:
        raise
    except Exception as error:  # whatever somebody's reader raises
        kind = type(error).__name__
        raise InputError(f"the task {recipe.task} fails to read its {split} split: {kind}: {error}") from error
    if not isinstance(samples, Samples):
        raise InputError(f"read of the task {recipe.task} must return Samples, got {type(samples).__name__}")
    return samples


def _check_labels(name: str, samples: Samples, task: Task) -> None:
    low, high = int(samples.labels.min()), int(samples.labels.max())
    if low < 0 or high >= task.classes:
        raise InputError(f"{name} must lie in 0..{task.classes - 1}, got {low}..{high}")


def _check_finite(name: str, samples: Samples) -> None:
    if samples.inputs.dtype.kind != "f":
        return
    for start in range(0, len(samples), _ROWS):
        rows = np.asarray(samples.inputs[start : start + _ROWS])
        wrong = ~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        if wrong.any():
            raise InputError(f"{name} must be finite; sample {start + int(wrong.argmax())} holds NaN or infinity")


def _check_network(recipe: Recipe, task: Task, samples: Samples) -> None:
    rows = min(2, len(samples))
    expected = (task.steps, rows, *task.input_shape)
    try:
        x = task.encode(torch.from_numpy(np.array(samples.inputs[:rows])))
    except Exception as error:  # whatever somebody's function raises
        raise InputError(f"the task {recipe.task} fails to make sequences of its samples: {error}") from error
    if tuple(x.shape) != expected:
        raise InputError(
            f"the samples of the task {recipe.task} make sequences of shape {tuple(x.shape)}; "
            f"its steps and input_shape say (T, B, *features) = {expected}"
        )
    network = unseeded_network(recipe, prepared=False).eval()
    try:
        with torch.no_grad():
            logits = network(x)
    except PsuDeployError:
        raise
    except Exception as error:  # whatever somebody's network raises
        raise InputError(f"the network of the task {recipe.task} fails on its samples {expected}: {error}") from error
    if tuple(logits.shape) != (rows, task.classes):
        raise InputError(
            f"the network of the task {recipe.task} gives {tuple(logits.shape)}; "
            f"expected logits (B, classes) = {(rows, task.classes)}"
        )
