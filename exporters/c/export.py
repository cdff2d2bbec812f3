"""The C exporter: emit, write, compile, run, check, move into place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from psu_deploy.errors import InputError
from psu_deploy.exporters.c.lower import check
from psu_deploy.exporters.c.runner import CRunner
from psu_deploy.exporters.c.sources import names_of, sources_of
from psu_deploy.exporters.c.target import SUFFIX
from psu_deploy.exporters.self_check import check_export
from psu_deploy.files.atomic import atomic_path
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact


def export(machine: StateMachine, path: str | Path) -> Artifact:
    """Write a machine as C99: `net.c`, `net.h`, `net_weights.c` and a page about them, `net.md`.

    Before the files are moved into place, they are compiled and run a few steps from a random state that is not zero;
    every spike and output must be what exact arithmetic makes of it. Where a function of the network has no value
    there, they run from their initial state.

    Args:
        machine: what to export.
        path: file to write, ending in `.c`; the others get names that begin with its own.

    Raises:
        InputError: if the path does not end in `.c`, or its name cannot stand in C.
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
        MissingExtraError: if there is no C compiler.
        ArtifactError: if a file cannot be written.
        InternalError: if what was written does not compute what the machine computes.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise InputError(f"a C file must end in {SUFFIX}, got {target}")
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
