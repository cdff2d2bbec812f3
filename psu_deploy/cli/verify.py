"""psu-deploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psu_deploy import api
from psu_deploy.cli.console import progress, say
from psu_deploy.cli.sources import open_source, random_spikes, read_array


def verify(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    artifact: Annotated[Path, typer.Argument(help="What was exported from it.")],
    data: Annotated[Path | None, typer.Option(help="Input (T, B, ...) as .npy float32; default: see below.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of random input; default: horizon or 32.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Samples of random input; default: 8, fewer for a large network.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random input.")] = 0,
    simulator: Annotated[
        str | None,
        typer.Option(help="What runs it. NIR: norse, snntorch, spikingjelly, sinabs, rockpool. Lava: lava, integer."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Lava: seconds for one run; default 600.")] = None,
    allow_silent: Annotated[
        bool, typer.Option("--allow-silent", help="Call it equivalent although nothing in the network fires.")
    ] = False,
) -> None:
    """Hold an export against its network: every number in it first, then every form spike by spike. Exit code 1 if a
    number is another, if a spike differs that rounding does not explain, or if nothing is proven.

    With a run folder, three ways: the trained module in parallel, the serial machine, the artifact, on the test data.
    With a saved machine, two ways, on random spikes.

    Example: psu-deploy verify runs/digits out/model.onnx

    A .net file comes in twice: its integers against the machine, which measures what rounding changed, and Lava
    against its integers, which it must repeat.

    Example: psu-deploy verify model.psm out/model.nir --simulator norse

    Example: psu-deploy verify model.psm out/model.net --data x.npy
    """
    with progress() as bar:
        bar.add_task("running every form of the network", total=None)
        network = open_source(source)
        if data is not None:
            x = read_array(data)
        elif network.data is not None:
            x = network.data
        else:
            x = random_spikes(network.machine, steps, batch, seed)
        given = {"simulator": simulator, "timeout": timeout}
        options = {name: value for name, value in given.items() if value is not None}
        runner = api.load(artifact, **options)
        model = network.machine if network.model is None else network.model
        result = api.verify(model, runner, x, allow_silent=allow_silent)
    say(result)
    if report is not None:
        result.save(report)
    if not result.ok:
        raise typer.Exit(1)
