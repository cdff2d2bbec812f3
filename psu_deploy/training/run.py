"""Train a recipe and write its run folder."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from psu_deploy.errors import InputError, MissingExtraError, require
from psu_deploy.preparation import prepare
from psu_deploy.training.evaluation import accuracy
from psu_deploy.training.folder import RunFolder
from psu_deploy.training.folders import data_folder
from psu_deploy.training.inspection import inspect_task
from psu_deploy.training.job import Job, trained
from psu_deploy.training.machines import Device, Machines, Strategy
from psu_deploy.training.packing import prepared_network
from psu_deploy.training.quiet import quiet_import
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.team import Team


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Args:
        test_accuracy: fraction of the test split that is classified right, 0..1, by the weights of the last epoch.
        validation_accuracy: the same of the validation split.
        epochs: how many were trained, those before a resume and those of fine-tuning included.
        seconds: wall time of this call from data to accuracies, without importing Lightning.
        device: "cpu" or "cuda".
    """

    test_accuracy: float
    validation_accuracy: float
    epochs: int
    seconds: float
    device: str


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    device: Device = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    strategy: Strategy = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    pictures: bool = True,
) -> RunResult:
    """Train a recipe and write its run folder. The same seed on the same machine gives the same weights.

    With `deploy_for`, the trained network is prepared and fine-tuned: trained again, just as long. Weights, machine and
    accuracies are those of the prepared network.

    Nothing is written outside `out`, but for the cache of a data set that has to be made from recordings, and torch's
    global generators are left as they were.

    Args:
        recipe: what to train and how.
        out: the run folder; must be empty or not exist.
        data: folder of the data set; None = `$PSU_DEPLOY_DATA/<task>`, for a task that needs one.
        device: "auto" is "cuda" where there is a GPU, else "cpu".
        devices: processes on this machine; on "cuda", GPUs. `docs/gpu.md` says how they are started: where nobody else
            does, the command of this process is run again for each of the others. Process 0 alone touches `out`.
        num_nodes: machines.
        strategy: "ddp" (a copy of the network in every process), "fsdp" (a part in every process), or "auto".
        resume: go on from the last checkpoint of the run in `out`, with the same recipe or one with more epochs; from
            the beginning if the run ended before there was one.
            The learning rate goes on along the curve of the recipe given. A run that was being fine-tuned goes on with
            that; with more epochs it is trained on as it was before, then prepared and fine-tuned anew.
        overwrite: start the run in `out` anew; only files of the run are removed.
        progress: show a progress bar on stderr.
        tensorboard: write events for TensorBoard, too, to `out/tensorboard`.
        pictures: draw the curves and what was learned along time; takes a second.

    Returns:
        The result, the same in every process.

    Raises:
        InputError: if the device is not there, `out` is not empty, the run in it has another recipe, or the data set is
            not where it should be.
        ArtifactError: if there is no run to resume, its checkpoint is lost or malformed, `out` cannot be written, or
            the data set is damaged.
        EngineError: if another process of the run ended before its end.
        MissingExtraError: if the `train` extra is not installed, or with `deploy_for="nir"` the `nir` extra.
    """
    machines = Machines(device, devices, num_nodes, strategy)
    _check_batch(recipe, machines)
    check_words(resume, overwrite)
    with Team(machines) as team:
        job = Job(recipe, RunFolder(Path(out)), data_folder(recipe.task, data), team, progress, tensorboard)
        start = team.decided(lambda: _begin(job, resume, overwrite))
        began = time.perf_counter()
        with own_generators(machines.device):
            model = _fit(job, start)
        return team.decided(lambda: _finish(job, model, began, pictures))


_Start = Literal["anew", "resumed", "resumed tuning"]


def _begin(job: Job, resume: bool, overwrite: bool) -> _Start:
    """Look whether the run may be written, make room for it, and say where it starts."""
    recipe, folder = job.recipe, job.folder
    if resume:
        folder.check_resumable(recipe)
    else:
        folder.check_free(overwrite)
    import_what_is_needed(recipe, job.tensorboard)
    inspect_task(recipe, job.data)  # rather now than after the run before is gone
    goes_on = resume and folder.has_checkpoint
    tunes = goes_on and folder.goes_on_tuning(recipe)
    folder.begin(recipe, goes_on)
    return "resumed tuning" if tunes else "resumed" if goes_on else "anew"


def _finish(job: Job, model: nn.Module, began: float, pictures: bool) -> RunResult:
    """Write what a finished run consists of."""
    recipe = job.recipe
    result = RunResult(
        test_accuracy=accuracy(model, recipe.make_task(), "test", job.data),
        validation_accuracy=accuracy(model, recipe.make_task(), "validation", job.data),
        epochs=recipe.epochs + recipe.tuning_epochs,
        seconds=time.perf_counter() - began,
        device=job.team.machines.device,
    )
    where = {} if job.data is None else {"data": str(job.data.resolve())}
    job.folder.finish(recipe, model, asdict(result) | where, pictures)
    return result


def _fit(job: Job, start: _Start) -> nn.Module:
    """Train; where the recipe says so, prepare and fine-tune. What a checkpoint has done already is not done again."""
    recipe = job.recipe
    torch.manual_seed(recipe.seed)
    if start == "resumed tuning":
        return trained(prepared_network(recipe), job, tuning=True, resume=True)
    model = trained(recipe.build_network(), job, tuning=False, resume=start == "resumed")
    if recipe.deploy_for is None:
        return model
    prepare(model, recipe.deploy_for, levels=recipe.levels, exponentials=recipe.sums)
    return trained(model, job, tuning=True, resume=False)


def check_words(resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if both are asked for."""
    if resume and overwrite:
        raise InputError(
            "resume and overwrite exclude each other: continue the run or start it anew",
            shell="--resume and --overwrite exclude each other: continue the run or start it anew",
        )


def _check_batch(recipe: Recipe, machines: Machines) -> None:
    if recipe.batch_size % machines.processes:
        raise InputError(
            f"batch_size {recipe.batch_size} is that of all {machines.processes} processes together; "
            f"make it a multiple of {machines.processes}"
        )


def import_what_is_needed(recipe: Recipe, tensorboard: bool) -> None:
    """Rather now than after the training."""
    try:
        with quiet_import():
            require("lightning.pytorch", extra="train")
    except RuntimeError as error:  # a torchvision of another torch: lightning imports it where it finds it
        raise MissingExtraError(
            f"lightning is installed but does not import here: {error}; `psu-deploy doctor` says what to do"
        ) from error
    if recipe.deploy_for == "nir":
        require("scipy.optimize", extra="nir")
    if tensorboard:
        require("tensorboard", extra="train")


def own_generators(device: str) -> AbstractContextManager[None]:
    """Training seeds torch's generators; put them back afterwards."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else [])
