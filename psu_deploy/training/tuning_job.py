"""A network that is tuned: what it was begun with is kept beside it, so that only the same goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.training.checks import short
from psu_deploy.training.folder import differences
from psu_deploy.training.job import Job
from psu_deploy.training.packing import Run
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.run import check_words


@dataclass(frozen=True, kw_only=True)
class Tuning(Job):
    """The fine-tuning of a network towards what it was.

    Args:
        original: the network as it was.
        distillation: weight of its answers in the loss, 0..1.
    """

    original: Run
    distillation: float

    @property
    def notes(self) -> Path:
        """Where `described` is kept."""
        return self.folder.path / "tune.json"

    @cached_property
    def sums(self) -> dict[str, float]:
        """By which the network that is tuned is known again."""
        return {name: float(value.double().sum()) for name, value in self.original.model.state_dict().items()}

    def described(self) -> str:
        """What a resumed run must have in common with the one that was begun, beside the recipe."""
        return json.dumps({"distillation": self.distillation, "source": self.sums}, indent=2) + "\n"


def check_folder(job: Tuning, resume: bool, overwrite: bool) -> bool:
    """Whether there is something to go on from.

    Raises:
        InputError: if the folder is taken, or what was begun in it is something else; says what.
        ArtifactError: if there is nothing, or it is malformed.
    """
    check_words(resume, overwrite)
    if not resume:
        job.folder.check_free(overwrite)
        return False
    if not job.folder.recipe.is_file():
        raise ArtifactError(f"there is nothing to resume in {job.folder.path}: no recipe.json; tune without resume")
    unlike = [*differences(Recipe.load(job.folder.recipe), job.recipe), *_unlike_its_notes(job)]
    if unlike:
        raise InputError(
            f"{job.folder.path} was begun with other arguments: {', '.join(unlike)}; resume it with its own, or tune "
            "into another folder"
        )
    return job.folder.tuned.is_file()


def _unlike_its_notes(job: Tuning) -> list[str]:
    """What is not as it was begun, of all that the recipe does not say."""
    if not job.notes.is_file():
        return []
    try:
        begun = json.loads(job.notes.read_text(encoding="utf-8"))
        weight, sums = begun["distillation"], dict(begun["source"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{job.notes} is malformed ({error}); begin anew with overwrite=True") from error
    unlike = [] if weight == job.distillation else [f"distillation {short(weight)} became {job.distillation}"]
    others = [name for name, total in job.sums.items() if sums.get(name) != total]
    if others:
        first = others[0]
        unlike.append(
            f"source has other weights (the sum of {first} was {short(sums.get(first))}, is {job.sums[first]})"
        )
    return unlike
