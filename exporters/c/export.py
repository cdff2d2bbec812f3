"""The C exporter: emit, write, compile, run, check, move into place."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from psu_deploy.errors import InputError
from psu_deploy.exporters.c.emit import emit
from psu_deploy.exporters.c.integers import export as integers
from psu_deploy.exporters.c.lower import check
from psu_deploy.exporters.c.names import prefix_of
from psu_deploy.exporters.c.page import page_text
from psu_deploy.exporters.c.runner import CRunner
from psu_deploy.exporters.c.sources import page_of, sources_of
from psu_deploy.exporters.c.target import NUMERICS, SUFFIX
from psu_deploy.exporters.c.together import written_together
from psu_deploy.exporters.c.weights import check_form, mapped
from psu_deploy.exporters.self_check import check_export
from psu_deploy.files.limits import NO_MEMORY, spell
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact

_NUMBER = 4
"""Bytes."""


def export(
    machine: StateMachine,
    path: str | Path,
    *,
    weights_file: str = "c",
    numerics: str = "float32",
    calibration: Any = None,
    input_range: str = "max",
) -> Artifact:
    """Write a machine as C99: `net.c`, `net.h`, `net_weights.c` and a page about them, `net.md`.

    Before the files are moved into place, they are compiled and run a few steps from a random state that is not zero;
    every spike and output must be what exact arithmetic makes of it. Where a function of the network has no value
    there, they run from their initial state.

    Args:
        machine: what to export.
        path: file to write, ending in `.c`; the others get names that begin with its own.
        weights_file: "c" = the numbers are source text; "bin" = they are a file, `net_weights.bin`, that whoever calls
            the network reads or maps: for networks of a million numbers and more, over which compilers take seconds.
        numerics: "float32"; or "int8": the integers of the Lava export, weights of 8 bits and states of 24, without
            floating point. Then every number is that of the integer reference, and beside the sources comes the
            quantisation report, `net.quantisation.json`.
        calibration: for "int8": input (T, B, *input_shape), float32, numpy: gives the input its scale, and measures
            what rounding does.
        input_range: for "int8": "max": the largest input met is the largest there is; "percentile": the 99.9th
            percentile is.

    Raises:
        InputError: if the path does not end in `.c`, its name cannot stand in C, or `net.h` or `net.md` is a file of
            somebody else; for other `weights_file` or `numerics`; or if there is no calibration data where it is
            needed, or it does not fit; or if there is not enough memory.
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
        MissingExtraError: if there is no C compiler.
        ArtifactError: if a file cannot be written.
        InternalError: if what was written does not compute what the machine computes.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise InputError(f"a C file must end in {SUFFIX}, got {target}")
    options = {"calibration": calibration, "input_range": input_range}
    try:
        if _check_numerics(numerics) == "float32":
            return _export(machine, target, weights_file, **options)
        if weights_file != "c":
            raise InputError(f"whole numbers are source text: leave weights_file={weights_file!r} out")
        return integers.export(machine, target, **options)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or NO_MEMORY in str(error):
            raise InputError(_too_large(machine)) from error
        raise


def _too_large(machine: StateMachine) -> str:
    """What to say where there is not enough memory."""
    numbers = sum(map(prod, (*machine.shapes.values(), *(spec.shape for spec in machine.state_spec.values()))))
    return (
        f"one sample of this network is {spell(_NUMBER * numbers)} of state and of numbers between layers; to write it "
        "down and to run it takes several times as much, more than there is here. Nothing was written: make its layers "
        "smaller, or export it where there is more memory"
    )


def _export(machine: StateMachine, target: Path, weights_file: str, *, calibration: Any, input_range: str) -> Artifact:
    """Write a machine in float32."""
    if calibration is not None or input_range != "max":
        raise InputError('calibration and input_range are for whole numbers: pass numerics="int8" as well')
    check(machine)  # before its hash is asked for, which an unknown kind has none of
    form = check_form(weights_file)
    emitted = emit(machine, prefix_of(target), mapped=form == "bin")
    if emitted.mapped and not mapped(emitted):
        raise InputError("no number of this network could lie in a file of its own; leave weights_file='bin' out")
    page = page_text(machine, emitted, target.stem).encode()
    sources = sources_of(machine, emitted, target)
    with written_together(target, sources, {page_of(target): page}) as temporary:
        runner = CRunner(temporary)
        check_export(machine, runner)
    target.with_name(f"{target.stem}_weights.{'c' if form == 'bin' else 'bin'}").unlink(missing_ok=True)
    return replace(runner.artifact, path=target, files=(*sources, page_of(target)))


def _check_numerics(numerics: str) -> str:
    """Raise `InputError` unless networks may be written in such numbers."""
    if numerics not in NUMERICS:
        raise InputError(f"numerics must be one of {', '.join(NUMERICS)}, got {numerics!r}")
    return numerics
