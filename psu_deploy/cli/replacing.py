"""A file that an export writes over: what it was is said, because it is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psu_deploy import api
from psu_deploy.cli.console import tell
from psu_deploy.errors import PsuDeployError
from psu_deploy.exporters import Target

_TUNED = "tune.json"
"""In a folder that `psu-deploy tune` exports to."""


@contextmanager
def replacing(path: Path, target: Target) -> Iterator[None]:
    """Export to a path in the block: where another file stood there, say which; nothing where it was the very same.

    Args:
        path: that the block writes.
        target: that it is written for.
    """
    if not path.is_file():
        yield
        return
    before, described = _digest(path), _described(path, target)
    yield
    if _digest(path) != before:
        tell(f"note: {path} was there and is replaced: it was {described}")


def _described(path: Path, target: Target) -> str:
    """A file by what it says of itself, and how to have it again where that is known."""
    try:
        runner = api.load(path, **target.without_engine)
    except PsuDeployError:  # whoever wrote it, an export replaces what stands under its name
        return "none that could be opened"
    made_for = runner.facts.get("reader", runner.engine)
    said = f"of machine {runner.artifact.machine_hash[:12]}, {runner.artifact.fidelity}, for {made_for}"
    tuned = path.stem == "model" and (path.parent / _TUNED).is_file()
    return f"{said}; psu-deploy tune writes its own again with --resume" if tuned else said


def _digest(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""  # nobody may read it, and yet it can be replaced
