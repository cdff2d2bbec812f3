"""`--set name=value`: fields of a recipe, options of a task and of a neuron. `--task-file`: tasks of one's own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy.errors import InputError
from psu_deploy.text import did_you_mean

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A field of the recipe, or an option of the task or the neuron."),
]
TaskFile = Annotated[
    Path | None, typer.Option(help="A Python file of your own that registers tasks; it is run, so trust it.")
]


def as_fields(assignments: Sequence[str], task: str, neuron: str | None) -> dict[str, Any]:
    """`name=value` words as fields of a recipe: `steps=20` is `{"options": {"steps": 20}}` where the task has steps.

    A name is looked for among the fields of a recipe, the options of the task, and those of the neuron's class, in this
    order; `options.name` and `neuron_options.name` say which. A value is read as YAML: 3, 0.1, true, null, words.

    Raises:
        InputError: if a word is no assignment, or there is nothing of this name.
    """
    import yaml

    found: dict[str, Any] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, such as epochs=3, got {word!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {name}: {text!r} is no value: {error}") from error
        group, _, option = _place(name, task, neuron).rpartition(".")
        if group:
            found.setdefault(group, {})[option] = _number(value)
        else:
            found[option] = _number(value)
    return found


def _place(name: str, task: str, neuron: str | None) -> str:
    from psu_deploy.models.neurons import neuron_options
    from psu_deploy.training import Recipe
    from psu_deploy.training.networks import OWN
    from psu_deploy.training.presets import neurons_of
    from psu_deploy.training.registry import task_options

    neuron = neuron or neurons_of(task)[0]
    places = {field.name: field.name for field in fields(Recipe)}
    groups = {
        "options": list(task_options(task)),
        "neuron_options": [] if neuron == OWN else list(neuron_options(neuron)),
    }
    for group, options in groups.items():
        places = {option: f"{group}.{option}" for option in options} | places
        places |= {f"{group}.{option}": f"{group}.{option}" for option in options}
    if name not in places:
        there = ", ".join(sorted(place for place in places if "." not in place))
        raise InputError(
            f"--set {name}: no field of a recipe, no option of {task} or {neuron} is called so"
            f"{did_you_mean(name, places)}; there are {there}"
        )
    return places[name]


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as a word, because it has no point."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def import_tasks(file: Path | None) -> None:
    """Run a file that registers tasks.

    Raises:
        InputError: if it is not there, or fails.
    """
    if file is None:
        return
    spec = importlib.util.spec_from_file_location(f"psu_deploy_tasks_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise InputError(f"--task-file {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file raises
        raise InputError(f"--task-file {file} fails: {type(error).__name__}: {error}") from error
