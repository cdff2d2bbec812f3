"""Batches for Lightning. Apart from the readers so that arrays can be had without importing Lightning."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from psu_deploy.errors import InputError
from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.samples import Samples, Split
from psu_deploy.training.tasks import Task

with quiet_import():
    import lightning.pytorch as pl

Rows = DataLoader[tuple[Tensor, Tensor]]


class SampleRows(Dataset[tuple[Tensor, Tensor]]):
    """The rows of a split, for a loader that asks for a whole batch at once.

    Args:
        samples: the split.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        inputs, labels = self.__getitems__([row])
        return inputs[0], labels[0]

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Inputs (B, ...) as they are stored, and labels (B,)."""
        return torch.from_numpy(self.samples.inputs[rows]), torch.from_numpy(self.samples.labels[rows])


class SequenceData(pl.LightningDataModule):
    """The training and validation split of a task, in batches as they are stored.

    Args:
        task: where the samples come from.
        batch_size: samples per optimiser step, of all processes together; the last batch is whatever is left.
        seed: of the order of the training samples, which is another one in every epoch.
        folder: of the data set; None = the task needs none.

    Batches: inputs (B, ...) and labels (B,); `Task.encode` makes sequences of the inputs.
    """

    def __init__(self, task: Task, batch_size: int, seed: int, folder: Path | None = None) -> None:
        super().__init__()
        self.task = task
        self.batch_size = batch_size
        self.seed = seed
        self.folder = folder

    def train_dataloader(self) -> Rows:
        rows, here, of = self._rows("train"), *self._share()
        # The one sampler of torch whose order is a function of seed and epoch, so that a resumed run sees the order it
        # would have seen. Batch k of all processes together is batch k of one; where the last one cannot be divided
        # among them, some samples are in it twice.
        order: DistributedSampler[int] = DistributedSampler(rows, num_replicas=of, rank=here, seed=self.seed)
        return self._loader(rows, batch_size=self.batch_size // of, sampler=order)

    def val_dataloader(self) -> Rows:
        """Every sample once, in as many batches in every process as in every other: they wait for each other."""
        rows, here, of = self._rows("validation"), *self._share()
        if len(rows) < of:
            raise InputError(f"the validation split has {len(rows)} samples, too few for {of} processes")
        batches = min(ceil(ceil(len(rows) / of) / (self.batch_size // of)), len(rows) // of)
        shares = np.array_split(np.arange(here, len(rows), of), batches)
        return self._loader(rows, batch_sampler=[share.tolist() for share in shares])

    def _loader(self, rows: SampleRows, **batches: Any) -> Rows:
        # A loader takes a number from its generator now and then; dropout's would be the default.
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(rows, collate_fn=_as_it_is, generator=generator, **batches)

    def _rows(self, split: Split) -> SampleRows:
        return SampleRows(self.task.read(split, self.folder))

    def _share(self) -> tuple[int, int]:
        """Number of this process, and of all."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _as_it_is(batch: Any) -> Any:
    return batch  # made by `__getitems__`, where torch expects a list of samples
