"""Make a trained network deployable: prepare it for a target, fine-tune it towards what it was, export, verify."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psu_deploy import api
from psu_deploy.errors import InputError
from psu_deploy.exporters import Target, target_named
from psu_deploy.files.atomic import write_whole
from psu_deploy.preparation import LEVELS, prepare
from psu_deploy.runtime import Artifact
from psu_deploy.training.checks import check_number
from psu_deploy.training.distillation import distilling, flip_rate
from psu_deploy.training.evaluation import accuracy, test_data
from psu_deploy.training.folder import RunFolder, data_of, load_run
from psu_deploy.training.folders import data_folder
from psu_deploy.training.inspection import inspect_task
from psu_deploy.training.job import trained
from psu_deploy.training.machines import Device, Machines
from psu_deploy.training.packing import Run, prepared_network, unpack
from psu_deploy.training.recipe import EXPONENTIALS, Recipe
from psu_deploy.training.run import import_what_is_needed, own_generators
from psu_deploy.training.team import Team
from psu_deploy.training.tuning_job import Tuning, check_folder
from psu_deploy.verify import EquivalenceReport

_COMPARED = 256
"""Samples of the test split whose spikes are compared, and that an export is verified on."""


@dataclass(frozen=True)
class TuneResult:
    """What tuning gave.

    Args:
        original_accuracy: of the network as it was, on the test split, 0..1.
        prepared_accuracy: of the network that is prepared and not yet fine-tuned.
        tuned_accuracy: of the network that is exported.
        prepared_flips: share of the original's spikes that the prepared network decides differently, 0..1.
        tuned_flips: the same of the fine-tuned network.
        artifact: the file.
        report: of the verification: module, machine and artifact, spike by spike.
    """

    original_accuracy: float
    prepared_accuracy: float
    tuned_accuracy: float
    prepared_flips: float
    tuned_flips: float
    artifact: Artifact
    report: EquivalenceReport


def tune(
    source: str | Path,
    target: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    levels: int = LEVELS,
    exponentials: int = EXPONENTIALS,
    distillation: float = 0.5,
    device: Device = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> TuneResult:
    """Prepare a trained network for a target, fine-tune it towards what it was, export and verify it.

    `out` becomes a run folder like any other, of the prepared network, with the exported file in it.

    Args:
        source: a run folder, or its `model.psm`, which carries recipe and weights.
        target: "nir" or "lava".
        out: folder to write; must be empty or not exist.
        data: folder of the data set; None = where the source was trained on it, or `$PSU_DEPLOY_DATA/<task>`.
        epochs: of fine-tuning; None = as many as the network was trained.
        learning_rate: None = that of the recipe.
        levels: for "nir": steps of the staircase in the place of the sigmoid.
        exponentials: for "nir": terms of the sums in the place of T x T matrices.
        distillation: weight of the original's answers in the loss, 0..1; see `distilling`.
        device: "auto" is "cuda" where there is a GPU, else "cpu".
        resume: go on with what was begun in `out`, with the same arguments.
        overwrite: begin anew in `out`; only files of the run are removed.
        progress: show a progress bar on stderr.
        options: of the export, such as `simulator="norse"`.

    Raises:
        InputError: if the source is prepared already, its neurons cannot be, or an argument makes no sense.
        ArtifactError: if the source is no run, or `out` cannot be written or resumed.
        MissingExtraError: if something is not installed that the target needs.
    """
    _check_apart(Path(source), Path(out))
    original = _open(Path(source))
    recipe = _recipe(original.recipe, target, epochs, learning_rate, levels, exponentials)
    check_number("distillation", distillation, "in 0..1", lambda v: 0 <= v <= 1)
    job = Tuning(
        recipe,
        RunFolder(Path(out)),
        _data(Path(source), recipe, data),
        Team(Machines(device)),
        progress,
        original=original,
        distillation=distillation,
    )
    resume = check_folder(job, resume, overwrite)
    import_what_is_needed(recipe, tensorboard=False)
    inspect_task(original.recipe, job.data)
    job.folder.begin(recipe, resume)
    write_whole(job.notes, job.described().encode())
    with job.team, own_generators(job.team.machines.device):
        before, model = _fit(job, resume)
    return _finish(job, before, model, target_named(target), options)


def _check_apart(source: Path, out: Path) -> None:
    folder = source if source.is_dir() else source.parent
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} is the folder of the network that is tuned, which would be lost; name another folder")


def _data(source: Path, recipe: Recipe, data: str | Path | None) -> Path | None:
    """The folder given, else the one the source was trained on, else the usual one."""
    known = data_of(source if source.is_dir() else source.parent) if data is None else None
    return data_folder(recipe.task, known if data is None else data)


def _open(source: Path) -> Run:
    run = load_run(source) if source.is_dir() else unpack(source)
    if run.recipe.deploy_for is not None:
        raise InputError(
            f"{source} is prepared for {run.recipe.deploy_for} already; name the run of the network as it was, "
            f"or export this one"
        )
    return run


def _recipe(
    recipe: Recipe, target: str, epochs: int | None, learning_rate: float | None, levels: int, exponentials: int
) -> Recipe:
    """That of the fine-tuning: a warm-up that is longer than all of it makes no sense."""
    epochs = recipe.epochs if epochs is None else epochs
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    sizes = {"levels": levels, "exponentials": exponentials}
    return replace(recipe, deploy_for=target, epochs=epochs, learning_rate=rate, warmup_epochs=0, **sizes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Before:
    """The network as it was, and as it was prepared."""

    original_accuracy: float
    prepared_accuracy: float
    prepared_flips: float


def _fit(job: Tuning, resume: bool) -> tuple[_Before, nn.Module]:
    recipe = job.recipe
    assert recipe.deploy_for is not None
    student = copy.deepcopy(job.original.model)
    prepare(student, recipe.deploy_for, levels=recipe.levels, exponentials=recipe.sums)
    before = _Before(
        accuracy(job.original.model, recipe.make_task(), "test", job.data),
        accuracy(student.eval(), recipe.make_task(), "test", job.data),
        flip_rate(job.original.model, student, _compared(job)),
    )
    if resume:
        student = prepared_network(recipe)
    torch.manual_seed(recipe.seed)
    loss = distilling(job.original.model, recipe, job.distillation)
    return before, trained(student, job, tuning=True, resume=resume, loss=loss)


def _finish(job: Tuning, before: _Before, model: nn.Module, target: Target, options: dict[str, Any]) -> TuneResult:
    x = _compared(job)
    after = {
        "tuned_accuracy": accuracy(model, job.recipe.make_task(), "test", job.data),
        "tuned_flips": flip_rate(job.original.model.cpu(), model, x),
    }
    declared = target.options_of("export")
    chosen = {name: option.suggested for name, option in declared.items() if option.suggested} | options
    calibration = {name: x for name, option in declared.items() if option.from_run and option.only_with is None}
    path = job.folder.path / f"model{target.suffix}"
    shape = job.recipe.make_task().input_shape
    artifact = api.export(model, path, target=target.name, input_shape=shape, **{**calibration, **chosen})
    at_verify = target.options_of("verify")
    opened = {name: declared[name].at_verify.get(value, value) for name, value in chosen.items() if name in at_verify}
    report = api.verify(model, api.load(artifact, **opened), x)
    where = {} if job.data is None else {"data": str(job.data.resolve())}
    metrics = asdict(before) | after | {"verdict": report.verdict} | where
    job.folder.finish(job.recipe, model, metrics, pictures=True)
    return TuneResult(**asdict(before), **after, artifact=artifact, report=report)


def _compared(job: Tuning) -> Any:
    return test_data(job.recipe, job.data, samples=_COMPARED)[0]
