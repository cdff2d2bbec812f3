"""psu-deploy import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psu_deploy.capture import to_state_machine
from psu_deploy.cli.console import hint, progress, say
from psu_deploy.cli.sources import MACHINE_SUFFIX, check_free
from psu_deploy.errors import InputError
from psu_deploy.importers import nir, official
from psu_deploy.importers.networks import input_shape
from psu_deploy.importers.neurons import KINDS


def import_(
    checkpoint: Annotated[
        Path, typer.Argument(help="A published checkpoint, such as model_best.pth.tar, or a NIR file.")
    ],
    out: Annotated[Path, typer.Option(help=f"State machine to write ({MACHINE_SUFFIX}).")],
    neuron: Annotated[
        str | None, typer.Option(help=f"Where the file cannot tell: {', '.join(KINDS)}.", show_default=False)
    ] = None,
    tau: Annotated[float | None, typer.Option(help="Time constant of an LIF network, in steps.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Threshold of an LIF network without saved ones.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the whole training, for a masked PSN.")] = None,
    size: Annotated[int, typer.Option(help="Height and width of the images of a CIFARNet.")] = 32,
    ema: Annotated[bool, typer.Option("--ema", help="Take the moving average of the weights.")] = False,
    dt: Annotated[float | None, typer.Option(help="Of a NIR file that does not say it: seconds per step.")] = None,
) -> None:
    """Turn a published checkpoint, or a NIR file, into a serial state machine. Nothing in the file is executed.

    Example: psu-deploy import model_best.pth.tar --out model.psm

    Example: psu-deploy import net.nir --dt 1e-4 --out model.psm
    """
    if out.suffix != MACHINE_SUFFIX:
        raise InputError(f"a state machine is written as {MACHINE_SUFFIX}, got {out}")
    check_free("--out", out, checkpoint)
    with progress() as bar:
        bar.add_task("importing and checking every layer", total=None)
        if checkpoint.suffix == ".nir":
            machine = nir.load(checkpoint, dt)
        else:
            model = official.load(checkpoint, neuron, tau=tau, threshold=threshold, epochs=epochs, ema=ema)
            machine = to_state_machine(model, input_shape(model, size))
        machine.save(out)
    say(machine.summary())
    hint(f"psu-deploy export {out} --to onnx --out out/")
