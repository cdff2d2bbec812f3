"""The integers of the Lava export as C: lower, quantise, measure, write, compile, run, check, move into place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from psu_deploy.errors import InternalError, UnsupportedModelError
from psu_deploy.exporters.c.integers.header import LIBRARIES
from psu_deploy.exporters.c.integers.runner import IntegerCRunner
from psu_deploy.exporters.c.integers.sources import sources_of
from psu_deploy.exporters.c.sources import names_of
from psu_deploy.exporters.integers.pipeline import Rounded, report_path, rounded
from psu_deploy.files.atomic import atomic_path
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact

_ACTION = "export to C in whole numbers, which are those of the Lava export"


def export(machine: StateMachine, path: Path, *, calibration: Any, input_range: str) -> Artifact:
    """Write a machine in whole numbers; see `psu_deploy.exporters.c.export`."""
    try:
        made = rounded(machine, calibration, input_range, 'C with numerics="int8"', LIBRARIES)
        sources = sources_of(made.network, made.metadata, path)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(error.problems, _ACTION) from error
    report = json.dumps(made.report.to_dict(), indent=2) + "\n"
    with atomic_path(path) as temporary:
        for name, text in sources.items():
            (temporary.parent / name).write_text(text, "utf-8")
        artifact = _checked(temporary, sources, made)
        report_path(temporary).write_text(report, "utf-8")
        for name in (*names_of(path)[1:], report_path(path).name):  # net.c last: it says what the others must be
            (temporary.parent / name).replace(path.parent / name)
    return replace(artifact, path=path)


def _checked(path: Path, sources: dict[str, str], made: Rounded) -> Artifact:
    """What was written sends, compiled, what the integers send."""
    source, header, weights, _ = names_of(path)
    runner = IntegerCRunner(path, {name: sources[name] for name in (source, header, weights)})
    if not runner.repeats_itself(made.network, made.sample):
        raise InternalError("what was written does not compute what it should. Please report this model")
    return runner.artifact
