"""One room per target. Rooms are imported on demand, so their dependencies stay optional.

A room is a module with two functions:

    export(machine: StateMachine, path: Path, **options) -> Artifact
    load(path: Path, **options) -> Runner

Other packages add targets through the entry-point group `psu_deploy.exporters`: name = "package.module".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from psu_deploy.errors import ArtifactError, InputError, require
from psu_deploy.runtime import Artifact, Runner

GROUP = "psu_deploy.exporters"


@dataclass(frozen=True)
class Room:
    """Where a target lives.

    Args:
        module: to import on demand.
        suffix: of the files it writes.
        extra: of this package that installs what it needs.
        needs: modules that must be importable.
    """

    module: str
    suffix: str
    extra: str
    needs: tuple[str, ...]


EXPORTERS: dict[str, Room] = {
    "onnx": Room("psu_deploy.exporters.onnx", ".onnx", "onnx", ("onnx", "onnx_ir", "onnxruntime")),
    "nir": Room("psu_deploy.exporters.nir", ".nir", "nir", ("nir", "nirtorch", "h5py")),
    "lava": Room("psu_deploy.exporters.lava", ".net", "lava", ("h5py",)),
}
"""Target -> its room."""


def exporter(target: str) -> Callable[..., Artifact]:
    """The `export` function of a target.

    Raises:
        InputError: if there is no such target.
        MissingExtraError: if its dependencies are not installed.
    """
    return cast(Callable[..., Artifact], _open(target).export)


def loader(path: Path) -> Callable[..., Runner]:
    """The `load` function of the target that writes files like `path`.

    Raises:
        ArtifactError: if no target does.
        MissingExtraError: if its dependencies are not installed.
    """
    for target, room in EXPORTERS.items():
        if path.suffix == room.suffix:
            return cast(Callable[..., Runner], _open(target).load)
    for point in _plugins().values():
        module: Any = point.load()
        if path.suffix == getattr(module, "SUFFIX", None):
            return cast(Callable[..., Runner], module.load)
    if path.suffix == ".psm":
        raise ArtifactError(f"{path} is a saved machine, not an export; open it with psu_deploy.StateMachine.load")
    suffixes = ", ".join(room.suffix for room in EXPORTERS.values())
    raise ArtifactError(f"{path}: no target writes {path.suffix or 'files without suffix'}; known suffixes: {suffixes}")


def _open(target: str) -> ModuleType:
    if target in EXPORTERS:
        room = EXPORTERS[target]
        for module in room.needs:
            require(module, room.extra)
        return importlib.import_module(room.module)
    plugins = _plugins()
    if target in plugins:
        return cast(ModuleType, plugins[target].load())
    raise InputError(f"unknown target {target!r}; choose one of {sorted({*EXPORTERS, *plugins})}")


def _plugins() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}
