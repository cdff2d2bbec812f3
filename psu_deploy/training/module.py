"""One network, one loss, one optimiser: what Lightning runs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.recipe import Recipe

with quiet_import():
    import lightning.pytorch as pl
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

Batch = tuple[Tensor, Tensor]


class Classifier(pl.LightningModule):
    """Trains a network on sequences with cross-entropy, AdamW and a cosine schedule.

        learning rate at step k = learning_rate * (1 + cos(pi k / steps)) / 2

    Args:
        model: (T, B, *features) -> logits (B, classes).
        recipe: gives learning rate, weight decay and seed.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def on_train_epoch_start(self) -> None:
        # An epoch's order and dropout depend on the seed and its number alone, so that a resumed run
        # goes on as if it had never stopped.
        sequence = np.random.SeedSequence((self.recipe.seed, self.current_epoch))
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, labels = batch
        loss = F.cross_entropy(self(x), labels)
        # Lightning would take the first axis, time, for the batch.
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, labels = batch
        hits = (self(x).argmax(1) == labels).float().mean()
        self.log("val_accuracy", hits, prog_bar=True, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: (1.0 + math.cos(math.pi * step / steps)) / 2.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
