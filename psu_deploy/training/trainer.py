"""Lightning's trainer, as a run needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psu_deploy.training.quiet import quiet_import

with quiet_import():
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
    from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy

from psu_deploy.training.callbacks import Journal
from psu_deploy.training.checkpoint_io import AtomicCheckpointIO
from psu_deploy.training.divergence import EndsDivergence
from psu_deploy.training.environment import TeamEnvironment
from psu_deploy.training.machines import Machines
from psu_deploy.training.recipe import Precision
from psu_deploy.training.team import Team

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Phase:
    """One call of Lightning: how long, and where it keeps what.

    Args:
        epochs: passes over the training split.
        checkpoint: written after every epoch.
        log: a table with a row per epoch.
        events: folder for TensorBoard; None = none is written.
    """

    epochs: int
    checkpoint: Path
    log: Path
    events: Path | None


def make_trainer(phase: Phase, team: Team, precision: Precision, progress: bool) -> pl.Trainer:
    """A trainer that writes what the phase says and nothing else."""
    target, machines = phase.checkpoint, team.machines
    environment = [TeamEnvironment(team.process, machines.processes)] if machines.parallel else []
    callbacks: list[Callback] = [
        EndsDivergence(),  # before anybody writes
        Journal(phase.log),
        ModelCheckpoint(target.parent, target.stem, enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    if progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return pl.Trainer(
        accelerator=machines.device,
        devices=machines.devices,
        num_nodes=machines.num_nodes,
        strategy=_strategy(machines),
        precision=precision,
        max_epochs=phase.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *environment],
        logger=False if phase.events is None else _tensorboard(phase.events),
        sync_batchnorm=machines.device == "cuda" and machines.parallel,  # torch has it for GPUs only
        use_distributed_sampler=False,  # `SequenceData` divides the samples
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        default_root_dir=target.parents[1],
    )


class _Sharded(FSDPStrategy):
    """FSDP marks the tensors it has copied, and torch saves a tensor with a mark as an object of a class."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {name: value.detach() for name, value in super().lightning_module_state_dict().items()}


def _strategy(machines: Machines) -> Strategy | str:
    if not machines.parallel:
        return "auto"
    if machines.strategy == "fsdp":
        from torch.distributed.fsdp import MixedPrecision

        # Lightning's own mixed precision would round the neurons' parameters; autocast leaves them alone.
        return _Sharded(state_dict_type="full", mixed_precision=MixedPrecision())
    return DDPStrategy()


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder.parent, name=folder.name, version="")


def fit(trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, checkpoint: Path | None) -> None:
    """Fit; Ctrl-C is a KeyboardInterrupt, where Lightning would end the process."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None
