"""Train a recipe and write its run folder."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from psu_deploy.errors import InputError, MissingExtraError, require
from psu_deploy.preparation import prepare
from psu_deploy.training.folder import RunFolder, build_model, prepared_model
from psu_deploy.training.quiet import quiet_import, quiet_training
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.samples import Arrays, Split

if TYPE_CHECKING:
    import lightning.pytorch as pl

Device = Literal["auto", "cpu", "cuda"]


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
    device: Device = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> RunResult:
    """Train a recipe and write its run folder. The same seed on the same machine gives the same weights.

    With `deploy_for`, the trained network is prepared and fine-tuned: trained again, just as long. Weights, machine and
    accuracies are those of the prepared network.

    Nothing is written outside `out`, and torch's global generators are left as they were.

    Args:
        recipe: what to train and how.
        out: the run folder; must be empty or not exist.
        device: "auto" is "cuda" where there is a GPU, else "cpu".
        resume: go on from the last checkpoint of the run in `out`, with the same recipe or one with more epochs; from
            the beginning if the run ended before there was one.
            The learning rate goes on along the curve of the recipe given. A run that was being fine-tuned goes on with
            that; with more epochs it is trained on as it was before, then prepared and fine-tuned anew.
        overwrite: start the run in `out` anew; only files of the run are removed.
        progress: show a progress bar on stderr.

    Raises:
        InputError: if the device is not there, `out` is not empty, or the run in it has another recipe.
        ArtifactError: if there is no run to resume, its checkpoint is lost or malformed, or `out` cannot be written.
        MissingExtraError: if the `train` extra is not installed, or with `deploy_for="nir"` the `nir` extra.
    """
    device = _resolve(device)
    if resume and overwrite:
        raise InputError(
            "resume and overwrite exclude each other: continue the run or start it anew",
            shell="--resume and --overwrite exclude each other: continue the run or start it anew",
        )
    folder = RunFolder(Path(out))
    if resume:
        folder.check_resumable(recipe)
        resume = folder.has_checkpoint
    else:
        folder.check_free(overwrite)
    _import_lightning()
    if recipe.deploy_for == "nir":
        require("scipy.optimize", extra="nir")  # now rather than after the training
    folder.begin(recipe, resume)
    began = time.perf_counter()
    with _own_generators(device):
        model = _fit(recipe, folder, device, resume, progress)
    result = RunResult(
        test_accuracy=accuracy(model, _arrays(recipe, "test")),
        validation_accuracy=accuracy(model, _arrays(recipe, "validation")),
        epochs=recipe.epochs + recipe.tuning_epochs,
        seconds=time.perf_counter() - began,
        device=device,
    )
    folder.finish(recipe, model, asdict(result))
    return result


def test_data(recipe: Recipe) -> Arrays:
    """The recipe's test split, for verification.

    Returns:
        x (T, N, *features) float32 and labels (N,) int64.
    """
    return _arrays(recipe, "test")


def _arrays(recipe: Recipe, split: Split) -> Arrays:
    task = recipe.make_task()
    samples = task.read(split, None)
    return task.encode(torch.from_numpy(samples.inputs)).contiguous().numpy(), samples.labels


def accuracy(model: nn.Module, samples: Arrays) -> float:
    """Fraction of the samples x (T, N, *features), labels (N,) that the model's largest logit gets right."""
    x, labels = (torch.from_numpy(array) for array in samples)
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).double().mean())


def _fit(recipe: Recipe, folder: RunFolder, device: str, resume: bool, progress: bool) -> nn.Module:
    """Train; where the recipe says so, prepare and fine-tune. What a checkpoint has done already is not done again."""
    torch.manual_seed(recipe.seed)
    if resume and folder.goes_on_tuning(recipe):
        return _tune(prepared_model(recipe), recipe, folder, device, True, progress)
    model = _run(_Phase(folder.checkpoint, recipe.epochs), build_model(recipe), recipe, device, resume, progress)
    if recipe.deploy_for is None:
        return model
    prepare(model, recipe.deploy_for, levels=recipe.levels, exponentials=recipe.sums)
    return _tune(model, recipe, folder, device, False, progress)


def _tune(model: nn.Module, recipe: Recipe, folder: RunFolder, device: str, resume: bool, progress: bool) -> nn.Module:
    return _run(_Phase(folder.tuned, recipe.tuning_epochs), model, recipe, device, resume, progress)


@dataclass(frozen=True)
class _Phase:
    """One call of Lightning: where its checkpoint is, and for how long."""

    checkpoint: Path
    epochs: int


def _run(phase: _Phase, model: nn.Module, recipe: Recipe, device: str, resume: bool, progress: bool) -> nn.Module:
    from psu_deploy.training.datamodule import SequenceData
    from psu_deploy.training.module import Classifier

    module = Classifier(model.train(), recipe)
    data = SequenceData(recipe.make_task(), recipe.batch_size, recipe.seed)
    checkpoint = phase.checkpoint if resume else None
    with quiet_training():
        _until_interrupted(_trainer(phase, device, progress), module, data, checkpoint)
    return module.model.cpu().eval()


def _trainer(phase: _Phase, device: str, progress: bool) -> pl.Trainer:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar

    from psu_deploy.training.checkpoint_io import AtomicCheckpointIO

    target = phase.checkpoint
    callbacks: list[Callback] = [
        ModelCheckpoint(target.parent, target.stem, enable_version_counter=False, save_on_train_epoch_end=True)
    ]
    if progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return pl.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=phase.epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=target.parents[1],
    )


def _until_interrupted(
    trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule, checkpoint: Path | None
) -> None:
    """Fit; Ctrl-C is a KeyboardInterrupt, where Lightning would end the process."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None


def _resolve(device: str) -> Literal["cpu", "cuda"]:
    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device == "cpu":
        return "cpu"
    if device != "cuda":
        raise InputError(f"device must be auto, cpu or cuda, got {device!r}")
    if not there:
        raise InputError('device is "cuda" but torch sees no GPU here; use "cpu" or "auto"')
    return "cuda"


def _import_lightning() -> None:
    try:
        with quiet_import():
            require("lightning.pytorch", extra="train")
    except RuntimeError as error:  # a torchvision of another torch: lightning imports it where it finds it
        raise MissingExtraError(
            f"lightning is installed but does not import here: {error}; `psu-deploy doctor` says what to do"
        ) from error


def _own_generators(device: str) -> AbstractContextManager[None]:
    """Training seeds torch's generators; put them back afterwards."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else [])
