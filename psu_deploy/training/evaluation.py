"""How often a network is right, and the samples it is asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy.training.folders import data_folder
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.samples import Arrays, Samples, Split
from psu_deploy.training.tasks import Task

_BATCH = 256


def test_data(recipe: Recipe, data: str | Path | None = None, *, samples: int | None = None) -> Arrays:
    """The recipe's test split, for verification.

    Args:
        recipe: whose task it is.
        data: folder of the data set, as for `train`.
        samples: how many, spread evenly over the split; None = all.

    Returns:
        x (T, N, *features) float32 and labels (N,) int64.
    """
    task = recipe.make_task()
    split = task.read("test", data_folder(recipe.task, data))
    rows = np.arange(len(split))
    if samples is not None and samples < len(split):
        rows = np.linspace(0, len(split) - 1, samples).round().astype(np.int64)
    x = task.encode(torch.from_numpy(split.inputs[rows]))
    return np.ascontiguousarray(x.numpy()), np.asarray(split.labels[rows])


def accuracy(model: nn.Module, task: Task, split: Split, folder: Path | None) -> float:
    """Fraction of a split that the model's largest logit gets right."""
    samples = task.read(split, folder)
    with torch.no_grad():
        hits = sum(int((model(task.encode(inputs)).argmax(1) == labels).sum()) for inputs, labels in _batches(samples))
    return hits / len(samples)


def _batches(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(samples), _BATCH):
        rows = slice(start, start + _BATCH)
        yield torch.from_numpy(np.array(samples.inputs[rows])), torch.from_numpy(np.array(samples.labels[rows]))
