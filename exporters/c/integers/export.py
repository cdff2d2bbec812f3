"""The integers of the Lava export as C: lower, quantise, measure, write, compile, run, check, move into place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from psu_deploy.errors import InternalError, UnsupportedModelError
from psu_deploy.exporters.c.integers.header import LIBRARIES
from psu_deploy.exporters.c.integers.runner import IntegerCRunner
from psu_deploy.exporters.c.integers.sources import page_text, sources_of
from psu_deploy.exporters.c.sources import page_of
from psu_deploy.exporters.c.together import written_together
from psu_deploy.exporters.integers.pipeline import Rounded, report_path, rounded
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
    page = page_text(made.network, made.metadata, path)
    beside = {page_of(path): page.encode(), report_path(path).name: report.encode()}
    with written_together(path, sources, beside) as temporary:
        artifact = _checked(temporary, made)
    path.with_name(f"{path.stem}_weights.bin").unlink(missing_ok=True)  # of another export to this name
    return replace(artifact, path=path, files=(*sources, *beside))


def _checked(path: Path, made: Rounded) -> Artifact:
    """What was written sends, compiled, what the integers send."""
    runner = IntegerCRunner(path)
    if not runner.repeats_itself(made.network, made.sample):
        raise InternalError("what was written does not compute what it should. Please report this model")
    return runner.artifact
