"""Options that are no verb's own: those that targets declare, and --version."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer

from psu_deploy.cli.console import say
from psu_deploy.cli.sources import read_array
from psu_deploy.errors import InputError, InternalError
from psu_deploy.exporters import Option, Target, Verb, all_targets


class InterruptedVerb(Exception):  # noqa: N818  nothing is wrong
    """Ctrl-C while a verb ran."""


Declared = list[tuple[Target, Option]]
"""One option, as every target that takes it declares it."""


def as_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """A verb as typer takes it: with --version, and with the options of targets where it takes `**options`.

    What was not given is not handed on.
    """
    signature = inspect.signature(function, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    declared: dict[str, Declared] = {}
    if len(own) < len(signature.parameters):
        declared = _declared(function.__name__, [parameter.name for parameter in own])

    @functools.wraps(function)
    def command(*, version: bool, **given: Any) -> Any:
        targets_own = {name: given.pop(name) for name in declared}
        options = {name: value for name, value in targets_own.items() if value is not None and value is not False}
        _check_numbers(declared, options)
        try:
            return function(**given, **options)
        except KeyboardInterrupt as error:  # typer would end without a word
            raise InterruptedVerb from error
        except EOFError as error:  # and take this one for a person who pressed ctrl-D
            raise InternalError(f"a file or a stream ended too early: {error}") from error

    parameters = [*own, *map(_parameter, declared.values()), _VERSION]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _declared(verb: str, taken: Iterable[str]) -> dict[str, Declared]:
    """Name -> who declares it, for a verb that has some names of its own."""
    assert verb in get_args(Verb)
    found: dict[str, Declared] = {}
    for target in all_targets().values():
        for name, option in target.options_of(verb).items():  # type: ignore[arg-type]
            same = found.setdefault(name, [])
            if name not in (*taken, "version") and all(option.type is other.type for _, other in same):
                same.append((target, option))
    return {name: those for name, those in found.items() if those}


def _parameter(those: Declared) -> inspect.Parameter:
    """As typer reads it from a function."""
    _, option = those[0]
    flags = dict.fromkeys(flag for _, one in those for flag in (one.flag, *one.also))
    info = typer.Option(*flags, help=" ".join(f"{target.title}: {_help(one)}" for target, one in those))
    kind, default = (bool, False) if option.type is bool else (_typed(option.type) | None, None)
    annotation = Annotated[kind, info]  # type: ignore[valid-type]  # typer reads it when it runs
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(option: Option) -> str:
    text = option.help.removesuffix(".")
    return f"{text}." if option.default is None else f"{text}; default {option.default}."


def _typed(kind: type) -> type:
    return Path if kind is np.ndarray else kind


def _check_numbers(declared: Mapping[str, Declared], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        for _, option in declared[name]:
            if option.within is not None and not option.within[0] <= value <= option.within[1]:
                low, high = option.within
                raise InputError(f"{option.flag} must be a whole number in {low}..{high}, got {value}")


def read_arrays(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the array in every file that one names."""
    return {name: read_array(value) if isinstance(value, Path) else value for name, value in options.items()}


def check_options(options: Mapping[str, Any], to: Target) -> None:
    """Raise `InputError` unless a target has all these options of `export`, and each has what it goes with."""
    own = to.options_of("export")
    for name in options:
        others = [target for target in all_targets().values() if name in target.options_of("export")]
        known = [own[name]] if name in own else [target.options_of("export")[name] for target in others]
        flag, needed = "/".join((known[0].flag, *known[0].also)), known[0].only_with
        if needed is not None and needed not in options and all(one.only_with for one in known):
            value = known[0].only_at
            asked = f"--{needed.replace('_', '-')}{' if you want one' if value is None else f' {value}'}"
            raise InputError(f"{flag} {known[0].purpose}; add {asked}")
        if name not in own:
            *some, last = (f"--to {target.name}" for target in others)
            those = f"{', '.join(some)} and {last}" if some else last
            raise InputError(f"{flag} is an option of {those}, not of --to {to.name}")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"psu-deploy {version('psu-deploy')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]
_VERSION = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Version)
