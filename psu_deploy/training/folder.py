"""The folder of one run, and how to read it back.

    recipe.json            what is trained, written first
    checkpoints/last.ckpt  after every epoch: all that is needed to go on
    checkpoints/tuned.ckpt the same of the prepared network while it is fine-tuned, where the recipe says deploy_for
    log.csv, tuned.csv     a row per epoch: losses, accuracy, learning rate, how often each layer fires
    curves.svg, tuned.svg  the same as a picture
    matrices.svg           what the neurons learned along time, where they did
    model.psm              the network as a state machine; the recipe and the weights are in it, too
    metrics.json           accuracies and time
    weights.safetensors    the network's weights after the last epoch, written last

A run without weights is not finished.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.files.atomic import atomic_path, write_whole
from psu_deploy.files.temporaries import is_temporary, remove_leftovers
from psu_deploy.training import weights
from psu_deploy.training.journal import read_table
from psu_deploy.training.packing import Run, pack, unseeded_network
from psu_deploy.training.pictures import draw_curves, draw_matrices
from psu_deploy.training.recipe import Recipe

MODEL_PREFIX = "model."
"""What the network is called in a checkpoint: the attribute of the module that trains it."""


def data_of(folder: str | Path) -> Path | None:
    """The folder of the data set that a finished run was trained on; None where its task needs none."""
    try:
        found = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8")).get("data")
    except (OSError, ValueError, AttributeError):
        return None  # of an earlier version, or none of our business here
    return Path(found) if isinstance(found, str) else None


def load_run(folder: str | Path) -> Run:
    """Read a finished run from its folder.

    Raises:
        ArtifactError: if the folder is not a run, the run is not finished, or a file is malformed.
    """
    files = RunFolder(Path(folder))
    if not files.recipe.is_file():
        raise ArtifactError(f"{folder} is not the folder of a run: there is no recipe.json in it")
    recipe = Recipe.load(files.recipe)
    if not files.weights.is_file():
        unfinished = f"the run in {folder} is not finished: there is no weights.safetensors in it"
        raise ArtifactError(
            f"{unfinished}; train with resume=True to continue it, or with overwrite=True to start it anew",
            shell=f"{unfinished}; continue it by psu-deploy train with --resume, or start it anew with --overwrite",
        )
    model = unseeded_network(recipe, prepared=recipe.deploy_for is not None)
    weights.fill(model, weights.load_weights(files.weights), files.weights)
    return Run(recipe, model.eval())


class RunFolder:
    """Where the files of a run are, and when which of them may be touched.

    Args:
        path: the folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.json"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.tuned = path / "checkpoints" / "tuned.ckpt"
        self.weights = path / "weights.safetensors"
        self.machine = path / "model.psm"
        self.metrics = path / "metrics.json"
        self.log = path / "log.csv"
        self.tuned_log = path / "tuned.csv"
        self.curves = path / "curves.svg"
        self.tuned_curves = path / "tuned.svg"
        self.matrices = path / "matrices.svg"
        self.events = path / "tensorboard"

    def check_free(self, overwrite: bool) -> None:
        """Raise `InputError` unless a new run may begin here."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; name a folder for the run")
        if not self.path.is_dir() or all(is_temporary(path) for path in self.path.iterdir()):
            return  # or a run was killed while it wrote its very first file
        if not self.recipe.is_file():
            raise InputError(f"{self.path} is not empty and not the folder of a run; name another folder")
        if not overwrite:
            taken = f"there is a run in {self.path} already"
            raise InputError(
                f"{taken}; pass resume=True to continue it, overwrite=True to start it anew, or name another folder",
                shell=f"{taken}; add --resume to continue it, --overwrite to start it anew, or name another folder",
            )

    def check_resumable(self, recipe: Recipe) -> None:
        """Raise `ArtifactError` unless there is a run to continue, `InputError` if it has another recipe."""
        if not self.recipe.is_file():
            nothing = f"there is nothing to resume in {self.path}: no recipe.json"
            raise ArtifactError(f"{nothing}; train without resume", shell=f"{nothing}; train without --resume")
        if not self.has_checkpoint and (self.weights.is_file() or self.tuned.is_file()):
            lost = f"the checkpoint of the run in {self.path} is lost: no checkpoints/last.ckpt, though it was trained"
            raise ArtifactError(
                f"{lost}; put it back, or start the run anew with overwrite=True",
                shell=f"{lost}; put it back, or start the run anew with --overwrite",
            )
        unlike = differences(replace(Recipe.load(self.recipe), epochs=recipe.epochs), recipe)
        if unlike:
            raise InputError(
                f"the run in {self.path} was started with another recipe, and only epochs may change: "
                f"{', '.join(unlike)}; resume it with its own recipe, or train in another folder"
            )
        if not self.has_checkpoint:
            return  # it ended before its first epoch did
        if self.goes_on_tuning(recipe):
            network_of(self.tuned, recipe, prepared=True)
        _, done = network_of(self.checkpoint, recipe, prepared=False)
        if recipe.epochs < done:
            raise InputError(
                f"the run in {self.path} has done {done} epochs already, the recipe wants {recipe.epochs}; "
                "resume it with at least as many"
            )

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return self.checkpoint.is_file()

    def goes_on_tuning(self, recipe: Recipe) -> bool:
        """Whether the run here was being fine-tuned, and with this recipe still would be.

        A recipe with more epochs trains the network before it is prepared, so fine-tuning begins anew.
        """
        return self.tuned.is_file() and Recipe.load(self.recipe).epochs == recipe.epochs

    def begin(self, recipe: Recipe, resume: bool) -> None:
        """Remove what an earlier run gave, our own files only, and write the recipe.

        Raises:
            ArtifactError: if a file cannot be removed or written.
        """
        pictures = [self.curves, self.tuned_curves, self.matrices]
        gone = [self.weights, self.metrics, self.machine, *pictures]  # without weights it is not finished
        gone += [] if resume else [self.checkpoint, self.log]
        gone += [] if resume and self.goes_on_tuning(recipe) else [self.tuned, self.tuned_log]
        with atomic_path(self.recipe) as temporary:
            temporary.write_text(recipe.to_json(), encoding="utf-8")  # where there is no space, nothing is removed
            for file in gone:
                file.unlink(missing_ok=True)
            for file in (self.checkpoint, self.tuned, self.log, self.tuned_log, *gone):
                remove_leftovers(file.parent, file.name)

    def finish(self, recipe: Recipe, model: nn.Module, metrics: dict[str, Any], pictures: bool) -> None:
        """Write what a finished run consists of."""
        if pictures:
            self._draw(model)
        machine = to_state_machine(model, recipe.make_task().input_shape)
        pack(machine, Run(recipe, model), self.machine)
        write_whole(self.metrics, (json.dumps(metrics, indent=2) + "\n").encode())
        weights.save_weights(model, self.weights)

    def _draw(self, model: nn.Module) -> None:
        for log, curves in ((self.log, self.curves), (self.tuned_log, self.tuned_curves)):
            if log.is_file():
                draw_curves(read_table(log), curves)
        draw_matrices(model, self.matrices)


def network_of(path: Path, recipe: Recipe, prepared: bool) -> tuple[nn.Module, int]:
    """The network in a checkpoint, and how many epochs it has behind it.

    Raises:
        ArtifactError: unless it is a checkpoint of the recipe's network.
    """
    checkpoint = weights.load_checkpoint(path)
    trained = {name.removeprefix(MODEL_PREFIX): value for name, value in checkpoint["state_dict"].items()}
    model = unseeded_network(recipe, prepared)
    weights.fill(model, trained, path)
    return model, int(checkpoint["epoch"]) + 1


def differences(started: Recipe, wanted: Recipe) -> list[str]:
    """Which fields of a recipe became what."""
    pairs = {name: (value, getattr(wanted, name)) for name, value in vars(started).items()}
    return [f"{name} {old!r} became {new!r}" for name, (old, new) in pairs.items() if old != new]
