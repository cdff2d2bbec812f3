"""What is trained where, and one phase of it: the training of a network, or the fine-tuning of a prepared one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from psu_deploy.training.folder import RunFolder, network_of
from psu_deploy.training.packing import unseeded_network
from psu_deploy.training.quiet import quiet_training
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.team import Team


@dataclass(frozen=True)
class Job:
    """A run and its surroundings.

    Args:
        recipe: what is trained and how.
        folder: where it is kept.
        data: folder of the data set; None = the task needs none.
        team: the processes.
        progress: whether a progress bar is shown.
        tensorboard: whether events are written for TensorBoard, too.
    """

    recipe: Recipe
    folder: RunFolder
    data: Path | None
    team: Team
    progress: bool
    tensorboard: bool = False


def trained(
    model: nn.Module,
    job: Job,
    *,
    tuning: bool,
    resume: bool,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> nn.Module:
    """Train a network to the end of a phase.

    Args:
        model: to begin with; not to be used afterwards.
        job: says how.
        tuning: whether it is prepared, and the phase that of fine-tuning.
        resume: whether to go on from the phase's checkpoint.
        loss: (sequences, logits, labels) -> (); None = the recipe's.

    Returns:
        The trained network on the CPU, in eval mode, in every process.
    """
    from psu_deploy.training.datamodule import SequenceData
    from psu_deploy.training.module import Classifier
    from psu_deploy.training.trainer import Phase, fit, make_trainer

    recipe, folder = job.recipe, job.folder
    task = recipe.make_task()
    events = folder.events if job.tensorboard else None
    if tuning:
        phase = Phase(recipe.tuning_epochs, folder.tuned, folder.tuned_log, events)
    else:
        phase = Phase(recipe.epochs, folder.checkpoint, folder.log, events)
    module = Classifier(model.train(), recipe, task, loss)
    data = SequenceData(task, recipe.batch_size, recipe.seed, job.data)
    with quiet_training():
        trainer = make_trainer(phase, job.team, recipe.precision, job.progress)
        fit(trainer, module, data, phase.checkpoint if resume else None)
    return _whole(phase.checkpoint, job, tuning) if job.team.machines.parallel else module.model.cpu().eval()


def _whole(checkpoint: Path, job: Job, tuning: bool) -> nn.Module:
    """The trained network, in every process; Lightning leaves a part of it (fsdp), or its own BatchNorm in it (ddp)."""
    recipe = job.recipe
    weights = job.team.decided(lambda: network_of(checkpoint, recipe, tuning)[0].state_dict())
    model = unseeded_network(recipe, tuning)
    model.load_state_dict(weights)
    return model.eval()
