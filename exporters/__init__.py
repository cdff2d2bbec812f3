"""One room per target. Rooms are imported on demand, so their dependencies stay optional.

A target is a `Target`: a record that names its two functions and says what the command line should know.

    export(machine: StateMachine, path: Path, **options) -> Artifact
    load(path: Path, **options) -> Runner

Other packages add targets through the entry-point group `psu_deploy.exporters`: name = "their_package:TARGET", where
`TARGET` is a `Target` called `name`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from psu_deploy.errors import ArtifactError, InputError, MissingExtraError, require
from psu_deploy.exporters.c.target import C
from psu_deploy.exporters.lava.target import LAVA
from psu_deploy.exporters.nir.target import NIR
from psu_deploy.exporters.onnx.target import ONNX
from psu_deploy.exporters.plugins import GROUP, Plugins, find_plugins
from psu_deploy.exporters.target import Option, Target, Verb, named
from psu_deploy.runtime import Artifact, Runner

__all__ = [
    "EXPORTERS",
    "GROUP",
    "Option",
    "Target",
    "Verb",
    "all_targets",
    "exporter",
    "installed_plugins",
    "loader",
    "named",
    "target_named",
    "target_of",
]

EXPORTERS: dict[str, Target] = {target.name: target for target in (ONNX, NIR, LAVA, C)}
"""Name -> target, of those in this package."""


def installed_plugins() -> Plugins:
    """The targets of other packages, and those that do not load."""
    return find_plugins(EXPORTERS)


def all_targets() -> dict[str, Target]:
    """Name -> target, ours first."""
    return EXPORTERS | installed_plugins().targets


def target_named(name: str) -> Target:
    """A target of ours, or of another package.

    Raises:
        InputError: if there is no such target, or its plugin does not load.
    """
    if name in EXPORTERS:
        return EXPORTERS[name]
    targets, broken = installed_plugins()
    if name in targets:
        return targets[name]
    if name in broken:
        raise InputError(broken[name])
    raise InputError(f"unknown target {name!r}; choose one of {', '.join(sorted({*EXPORTERS, *targets}))}")


def target_of(path: Path) -> Target:
    """The target that writes files like `path`.

    Raises:
        ArtifactError: if none does.
    """
    for target in EXPORTERS.values():
        if path.suffix == target.suffix:
            return target
    targets, broken = installed_plugins()
    for target in targets.values():
        if path.suffix == target.suffix:
            return target
    if path.suffix == ".psm":
        raise ArtifactError(f"{path} is a saved machine, not an export; open it with psu_deploy.StateMachine.load")
    suffixes = ", ".join(target.suffix for target in (EXPORTERS | targets).values())
    unknown = f"{path}: no target writes {path.suffix or 'files without suffix'}; known suffixes: {suffixes}"
    raise ArtifactError("; ".join([unknown, *broken.values()]))


def exporter(target: str) -> Callable[..., Artifact]:
    """The `export` function of a target.

    Raises:
        InputError: if there is no such target.
        MissingExtraError: if its dependencies are not installed.
    """
    record = target_named(target)
    _require(record)
    return cast(Callable[..., Artifact], named(record.export))


def loader(path: Path) -> Callable[..., Runner]:
    """The `load` function of the target that writes files like `path`.

    Raises:
        ArtifactError: if no target does.
        MissingExtraError: if its dependencies are not installed.
    """
    record = target_of(path)
    _require(record)
    return cast(Callable[..., Runner], named(record.load))


def _require(target: Target) -> None:
    for module in target.needs:
        if target.extra is not None:
            require(module, target.extra)
            continue
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"{(error.name or module)!r} is not installed; the target {target.name!r} needs it"
            ) from error
