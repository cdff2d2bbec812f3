"""Batches for Lightning. Apart from `data` so that arrays can be had without importing Lightning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, Sampler, SequentialSampler, TensorDataset

from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.samples import Split
from psu_deploy.training.tasks import Task

with quiet_import():
    import lightning.pytorch as pl


class SequenceData(pl.LightningDataModule):
    """The training and validation split of a task in time-first batches.

    Args:
        task: where the arrays come from.
        batch_size: sequences per batch; the last batch is whatever is left.
        seed: of the order of the training samples, which is another one in every epoch.

    Batches: x (T, B, *features) float32 and labels (B,) int64.
    """

    def __init__(self, task: Task, batch_size: int, seed: int) -> None:
        super().__init__()
        self.task = task
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        samples = self._samples("train")
        # The one sampler of torch whose order is a function of seed and epoch, so that a resumed run
        # sees the order it would have seen; nothing is distributed.
        order: Sampler[int] = DistributedSampler(samples, num_replicas=1, rank=0, seed=self.seed)
        return self._loader(samples, order)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        samples = self._samples("validation")
        return self._loader(samples, SequentialSampler(samples))

    def _samples(self, split: Split) -> TensorDataset:
        samples = self.task.read(split, None)
        return TensorDataset(torch.from_numpy(samples.inputs), torch.from_numpy(samples.labels))

    def _loader(self, samples: TensorDataset, order: Sampler[int]) -> DataLoader[tuple[Tensor, ...]]:
        # A loader takes a number from its generator now and then; dropout's would be the default.
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(samples, self.batch_size, sampler=order, collate_fn=_time_first, generator=generator)


def _time_first(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, labels = zip(*samples, strict=True)
    return torch.stack(x, dim=1), torch.stack(labels)
