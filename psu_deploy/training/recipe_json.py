"""Recipes as JSON, of this version and of those before."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.files.limits import OBJECT, check_memory, regular_size

if TYPE_CHECKING:
    from psu_deploy.training.recipe import Recipe

    Kind = TypeVar("Kind", bound=Recipe)

FORMAT = "psu-deploy.recipe"
VERSION = 3
_NEW_IN = {
    2: {"deploy_for", "levels", "exponentials"},
    3: {
        "options",
        "neuron_options",
        "surrogate",
        "optimizer",
        "momentum",
        "loss",
        "label_smoothing",
        "warmup_epochs",
        "warmup_from",
        "final_learning_rate",
        "augment",
        "precision",
    },
}
"""A recipe of an earlier version has the defaults there: they are what it did."""


def encode(recipe: Recipe) -> str:
    """A recipe as a JSON object, one key per argument."""
    return json.dumps({"format": FORMAT, "version": VERSION} | asdict(recipe), indent=2) + "\n"


def decode(kind: type[Kind], text: str, where: str) -> Kind:
    """Read what `encode` wrote, now or in an earlier version; anything else is an `ArtifactError` that says where."""
    values = _json_object(text, where)
    expected = {"format", "version"} | {field.name for field in fields(kind)}
    version = values.get("version")
    for newer in (new for new in _NEW_IN if type(version) is int and new > version):
        expected -= _NEW_IN[newer]
    missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
    if missing or unknown:
        raise ArtifactError(f"{where} does not have exactly the keys of a recipe: missing {missing}, unknown {unknown}")
    found = values.pop("format"), values.pop("version")
    if found not in [(FORMAT, known) for known in range(1, VERSION + 1)]:
        raise ArtifactError(f"{where} has format and version {found}, expected {(FORMAT, VERSION)}")
    try:
        return kind(**values)
    except InputError as error:
        raise ArtifactError(f"{where} is malformed: {error}") from error


def read(path: str | Path) -> str:
    """The text of a file that is short enough to be a recipe; anything else is an `ArtifactError`."""
    try:
        size = regular_size(path, "the recipe ")
        check_memory(OBJECT * size, 0, f"{path}: a recipe of {size} bytes")
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"cannot read the recipe {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is malformed: it is not UTF-8 text") from error


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is malformed: it is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{where} is malformed: expected a JSON object, got {type(values).__name__}")
    return values
