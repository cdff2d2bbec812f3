"""What a target says about itself: plain data, so that reading it needs nothing that the target depends on."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verb = Literal["export", "run", "verify"]
"""A command that takes options of targets: `export` hands them to the target's `export`, the others to its `load`."""


@dataclass(frozen=True)
class Option:
    """A keyword argument of a target's `export` or `load`, as the command line offers it.

    Targets may share an option. One whose name the command has already for a value of another type is left out of the
    command line; in Python it is there all the same.

    Args:
        name: of the argument; with dashes, that of the option.
        verbs: the commands that take it.
        help: a phrase or a sentence; the target's title comes before it.
        type: str, int, float, bool (a flag) or numpy.ndarray (the option names a .npy file).
        default: what the function takes where the option is left out, for the help.
        also: other spellings of the option, such as `--calibrate`.
        within: the smallest and the largest whole number it may be.
        only_with: name of an option, without which this one means nothing.
        only_at: the value of `only_with` with which it does; None = any.
        purpose: what it does to what `only_with` asks for, such as "limits an approximation".
        from_run: left out, it is the test data of the run folder that is exported.
        shown: title of a row in what `export` prints, and what stands there where the option is left out.
        suggested: value to export with, for a network that was trained for this target.
        at_verify: value at `export` -> value of the same option at `verify`, where the two differ.
    """

    name: str
    verbs: tuple[Verb, ...]
    help: str
    type: type = str
    default: Any = None
    also: tuple[str, ...] = ()
    within: tuple[int, int] | None = None
    only_with: str | None = None
    only_at: str | None = None
    purpose: str = ""
    from_run: bool = False
    shown: tuple[str, str] | None = None
    suggested: str | None = None
    at_verify: Mapping[str, str] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Target:
    """A target. Everything that computes is named, "package.module:function", and imported when it is needed.

    Args:
        name: as in `psu_deploy.export(..., target=name)` and `psu-deploy export --to name`.
        title: for people.
        suffix: of the files it writes.
        export: `(machine: StateMachine, path: Path, **options) -> Artifact`.
        load: `(path: Path, **options) -> Runner`.
        extra: of psu-deploy, installs what the target needs; None: the package that the target comes from does.
        needs: modules without which it does nothing.
        packages: distribution -> module; what `psu-deploy doctor` looks at.
        options: of `export` and `load`, for the command line.
        checks: `() -> str`, for the doctor: one sentence on something that is no package.
        reports: its runner may have a `report`, which is printed after an export.
        without_engine: options of `load` that open a file for `psu-deploy inspect` where the engine is not installed.
        prepare: the `psu_deploy.preparation` that trains a network for this target.
    """

    name: str
    title: str
    suffix: str
    export: str
    load: str
    extra: str | None = None
    needs: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    checks: tuple[str, ...] = ()
    reports: bool = False
    without_engine: Mapping[str, Any] = field(default_factory=dict)
    prepare: str | None = None

    def options_of(self, verb: Verb) -> dict[str, Option]:
        """Name -> option, of those that a command takes."""
        return {option.name: option for option in self.options if verb in option.verbs}


def named(place: str) -> Any:
    """What "package.module:name" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
