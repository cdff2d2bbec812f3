"""Opens exported C: files say themselves in which numbers they compute."""

from __future__ import annotations

from pathlib import Path

from psu_deploy.exporters.c.header import metadata_in
from psu_deploy.exporters.c.integers.header import FORMAT as INTEGERS
from psu_deploy.exporters.c.integers.runner import IntegerCRunner
from psu_deploy.exporters.c.reading import read_source
from psu_deploy.exporters.c.runner import CRunner


def load(path: str | Path, *, flags: str | None = None, compiled: bool = True) -> CRunner | IntegerCRunner:
    """A runner for exported sources; see `CRunner` and `IntegerCRunner`."""
    source = Path(path)
    said = metadata_in(source, read_source(source))
    whole = isinstance(said, dict) and said.get("format") == INTEGERS
    return (IntegerCRunner if whole else CRunner)(source, flags=flags, compiled=compiled)
