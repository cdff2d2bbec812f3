"""One network, one loss, one optimiser: what Lightning runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from psu_deploy.training.optimisation import learning_rate_curve, loss_of, make_optimizer
from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.tasks import Task

with quiet_import():
    import lightning.pytorch as pl
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Classifier(pl.LightningModule):
    """Trains a network on the sequences of a task, with the loss, optimiser and learning rate of a recipe.

    Args:
        model: (T, B, *features) -> logits (B, classes).
        recipe: says how.
        task: makes sequences of what the data set stores, and augments.
        loss: (sequences, logits, labels) -> (); None = the recipe's.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, task: Task, loss: Loss | None = None) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.task = task
        plain = loss_of(recipe)
        self.loss: Loss = loss or (lambda _, logits, labels: plain(logits, labels))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits

    def on_train_epoch_start(self) -> None:
        # An epoch's order, augmentation and dropout depend on the seed, its number and the process alone, so that a
        # resumed run goes on as if it had never stopped.
        entropy = (self.recipe.seed, self.current_epoch, *([self.global_rank] if self.global_rank else []))
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, labels = batch
        if self.recipe.augment and self.task.augment is not None:
            inputs = self.task.augment(inputs)
        x = self.task.encode(inputs)
        loss = self.loss(x, self(x), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        inputs, labels = batch
        x = self.task.encode(inputs)
        logits = self(x)
        hits = (logits.argmax(1) == labels).float().mean()
        weight = len(labels) * self.trainer.world_size  # Lightning averages it over the processes as a whole number
        self.log("val_loss", self.loss(x, logits, labels), batch_size=weight, sync_dist=True)
        self.log("val_accuracy", hits, prog_bar=True, batch_size=weight, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = make_optimizer(self.parameters(), self.recipe)
        factor = learning_rate_curve(self.recipe, int(self.trainer.estimated_stepping_batches))
        schedule = LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
