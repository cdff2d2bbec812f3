"""psu-deploy centre."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psu_deploy.centring import centre_thresholds
from psu_deploy.cli.console import hint, say
from psu_deploy.cli.sources import MACHINE_SUFFIX, check_free, open_machine, read_array
from psu_deploy.errors import InputError


def centre(
    source: Annotated[Path, typer.Argument(help="A saved machine (.psm), or a run folder.")],
    inputs: Annotated[Path, typer.Argument(help="(T, B, ...) as .npy, float32, time-first.")],
    out: Annotated[Path, typer.Option(help="The machine to write (.psm).")],
) -> None:
    """Move every threshold to where rounding turns the fewest spikes on these inputs. In exact arithmetic no spike and
    no output on them changes, and that is checked; a float32 run may change only where rounding had turned a decision
    before, and such changes are counted.

    What is written is a machine, without what its training left beside it.

    Example: psu-deploy centre model.psm x.npy --out centred.psm
    """
    if out.suffix != MACHINE_SUFFIX:
        raise InputError(f"a machine is written as {MACHINE_SUFFIX}, got {out}")
    check_free("--out", out, source, inputs)
    machine, report = centre_thresholds(open_machine(source), read_array(inputs))
    machine.save(out)
    say(report)
    hint("psu-deploy", "export", out, "--to", "onnx", "--out", "out/")
