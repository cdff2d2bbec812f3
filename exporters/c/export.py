"""The C exporter: emit, write, compile, run, check, move into place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from psu_deploy.errors import InputError
from psu_deploy.exporters.c.integers import export as integers
from psu_deploy.exporters.c.lower import check
from psu_deploy.exporters.c.runner import CRunner
from psu_deploy.exporters.c.sources import names_of, sources_of
from psu_deploy.exporters.c.target import NUMERICS, SUFFIX
from psu_deploy.exporters.self_check import check_export
from psu_deploy.files.atomic import atomic_path
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact


def export(
    machine: StateMachine,
    path: str | Path,
    *,
    numerics: str = "float32",
    calibration: Any = None,
    input_range: str = "max",
) -> Artifact:
    """Write a machine as C99: `net.c`, `net.h`, `net_weights.c` and a page about them, `net.md`.

    Before the files are moved into place, they are compiled and run a few steps from a random state that is not zero;
    every spike and output must be what exact arithmetic makes of it. Where a function of the network has no value
    there, they run from their initial state.

    With `numerics="int8"` it is the integers of the Lava export that are written: weights of 8 bits, states of 24, no
    floating point. Then every number must be that of the integer reference, and beside the sources comes the
    quantisation report, `net.quantisation.json`.

    Args:
        machine: what to export.
        path: file to write, ending in `.c`; the others get names that begin with its own.
        numerics: "float32", or "int8".
        calibration: for "int8": input (T, B, *input_shape), float32, numpy: gives the input its scale, and measures
            what rounding does.
        input_range: for "int8": "max": the largest input met is the largest there is; "percentile": the 99.9th
            percentile is.

    Raises:
        InputError: if the path does not end in `.c`, its name cannot stand in C, there are no such numerics, there is
            no calibration data where it is needed, or it does not fit.
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
        MissingExtraError: if there is no C compiler.
        ArtifactError: if a file cannot be written.
        InternalError: if what was written does not compute what the machine computes.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise InputError(f"a C file must end in {SUFFIX}, got {target}")
    if numerics not in NUMERICS:
        raise InputError(f"numerics must be one of {', '.join(NUMERICS)}, got {numerics!r}")
    if numerics == "int8":
        return integers.export(machine, target, calibration=calibration, input_range=input_range)
    if calibration is not None:
        raise InputError('calibration is for whole numbers: pass numerics="int8" as well, or leave it out')
    check(machine)  # before its hash is asked for, which an unknown kind has none of
    sources = sources_of(machine, target)
    with atomic_path(target) as temporary:
        for name, text in sources.items():
            (temporary.parent / name).write_text(text, "utf-8")
        runner = CRunner(temporary)
        check_export(machine, runner)
        for name in names_of(target)[1:]:  # net.c last: it says what the others must be
            (temporary.parent / name).replace(target.parent / name)
    return replace(runner.artifact, path=target)
