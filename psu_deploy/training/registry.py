"""The tasks that are known here, by name: ours, those of other packages, those registered by the caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from psu_deploy.errors import InputError
from psu_deploy.text import did_you_mean
from psu_deploy.training.catalogue import CATALOGUE
from psu_deploy.training.tasks import Task

GROUP = "psu_deploy.tasks"
"""Of the entry points that bring tasks: name = "their_package:TASK"."""

Value = int | float | str | bool
"""Of an option of a task."""

_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}

TaskMaker = Callable[..., Task]
"""Makes a task; its arguments, each by name and with a default, are the options of the task."""

_REGISTERED: dict[str, TaskMaker] = {}


def register(name: str, task: Task | TaskMaker) -> None:
    """Make a task known under a name, for recipes and for the command line of this process.

    A package that brings tasks names them as entry points instead, in the group `psu_deploy.tasks`.

    Args:
        name: what recipes call it.
        task: a task, or a function that makes one; every argument of the function has a name and a default, and is an
            option of the task: `Recipe(task="stripes", options={"steps": 40})`.

    Raises:
        InputError: if the name is taken, or an argument has no default.
    """
    if name in task_names():
        raise InputError(f"there is a task called {name} already; choose another name")
    _REGISTERED[name] = _maker(name, task)


def task_names() -> tuple[str, ...]:
    """Names of all tasks that are known here."""
    return tuple(sorted({*CATALOGUE, *_REGISTERED, *_points()}))


def task_options(name: str) -> Mapping[str, Value]:
    """The options of a task, with their defaults.

    Raises:
        InputError: if there is no such task.
    """
    return {option.name: option.default for option in inspect.signature(_named(name)).parameters.values()}


def make_task(name: str, options: Mapping[str, Value]) -> Task:
    """A task with its options.

    Raises:
        InputError: if there is no such task, or it has no such option, or an option has a value of another type.
    """
    known = task_options(name)
    for option, value in options.items():
        if option not in known:
            has = f"has the options {', '.join(known)}" if known else "has no options"
            raise InputError(f"the task {name} {has}; got {option}")
        _check_type(name, option, value, known[option])
    return _named(name)(**options)


def _named(name: str) -> TaskMaker:
    if not isinstance(name, str):
        raise InputError(f"task is the name of a task, got {name!r}")
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in _points():
        return _loaded(name, _points()[name])
    raise InputError(
        f"task must be one of {', '.join(task_names())}, got {name!r}{did_you_mean(name, task_names())}; a task of "
        "your own is registered first, on the command line by --task-file FILE"
    )


@cache
def _points() -> dict[str, EntryPoint]:
    """Name -> entry point; what is installed is looked through once."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(name: str, point: EntryPoint) -> TaskMaker:
    try:
        return _maker(name, point.load())
    except Exception as error:  # whatever somebody else's package raises
        raise InputError(f"the task {name} of {point.value} does not load: {error}") from error


def _maker(name: str, task: Any) -> TaskMaker:
    if isinstance(task, Task):
        return lambda: task
    if not callable(task):
        raise InputError(f"the task {name} must be a Task or a function that makes one, got {type(task).__name__}")
    for argument in inspect.signature(task).parameters.values():
        if type(argument.default) not in _TYPES or argument.kind is not argument.POSITIONAL_OR_KEYWORD:
            raise InputError(
                f"the argument {argument.name} of the task {name} is an option that a recipe may leave out: "
                f"give it a default that is {', '.join(_TYPES.values())}"
            )
    maker: TaskMaker = task
    return maker


def _check_type(name: str, option: str, value: Any, default: Value) -> None:
    wanted = (int, float) if type(default) is float else (type(default),)
    if type(value) not in wanted:
        raise InputError(f"the option {option} of the task {name} must be {_TYPES[type(default)]}, got {value!r}")
