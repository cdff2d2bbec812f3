"""Recipes that are known: one file of YAML per task in `recipes/`, and beside it what it does unlike its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import yaml

from psu_deploy.errors import InputError
from psu_deploy.models import CAUSAL
from psu_deploy.training.networks import OWN, takes_neuron
from psu_deploy.training.recipe import Recipe
from psu_deploy.training.registry import make_task

_FOLDER = files("psu_deploy.training") / "recipes"
_PER_NEURON = "neurons"
"""Key of a file: name of a neuron -> fields of the recipe that are others for it."""


def preset(task: str, neuron: str | None = None, **fields: Any) -> Recipe:
    """The recipe of a task: what its file says, else the defaults of `Recipe`.

    Args:
        task: its name.
        neuron: a name in `psu_deploy.models.CAUSAL`; None = "rpsu", or "own" where the network has neurons of its own.
        fields: of the recipe, that shall be others; `options` and `neuron_options` are merged. With other epochs, the
            warm-up keeps its share of them.

    Raises:
        InputError: if there is no such task, or a field is wrong.
    """
    neuron = neurons_of(task)[0] if neuron is None else neuron
    values = _values(task)
    own = values.pop(_PER_NEURON, {}).get(neuron, {})
    if "epochs" in values and type(fields.get("epochs")) is int:
        values["warmup_epochs"] = round(values.get("warmup_epochs", 0) * fields["epochs"] / values["epochs"])
    for more in (own, {"neuron": neuron}, fields):
        merged = {key: {**values.get(key, {}), **value} for key, value in more.items() if isinstance(value, dict)}
        values |= more | merged
    known = Recipe.__dataclass_fields__
    for name in values:
        if name not in known:
            raise InputError(f"a recipe has the fields {', '.join(known)}; got {name}")
    return Recipe(task=task, **values)


def neurons_of(task: str) -> tuple[str, ...]:
    """Names of the neurons that the network of a task can have, "rpsu" first.

    Raises:
        InputError: if there is no such task.
    """
    if not takes_neuron(make_task(task, {}).network):
        return (OWN,)
    return ("rpsu", *(name for name in CAUSAL if name != "rpsu"))


def _values(task: str) -> dict[str, Any]:
    file = _FOLDER / f"{task}.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}


class _Presets(Mapping[str, Recipe]):
    """Name "task-neuron" -> recipe, made when it is asked for."""

    def __getitem__(self, name: str) -> Recipe:
        task, _, neuron = name.rpartition("-")
        if task not in _tasks_with_files() or neuron not in neurons_of(task):
            raise KeyError(name)
        return preset(task, neuron)

    def __iter__(self) -> Iterator[str]:
        return (f"{task}-{neuron}" for task in _tasks_with_files() for neuron in neurons_of(task))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tasks_with_files() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


RECIPES: Mapping[str, Recipe] = _Presets()
"""Recipes that are known to work, by name: "digits-rpsu"."""
