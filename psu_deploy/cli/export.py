"""psu-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy import api
from psu_deploy.cli.console import hint, progress, table
from psu_deploy.cli.sources import Source, open_machine, open_source, read_array
from psu_deploy.errors import InputError
from psu_deploy.exporters import EXPORTERS


def export(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    out: Annotated[Path, typer.Option(help="File to write, or a folder to write model.* into.")],
    to: Annotated[str, typer.Option(help=f"Target: {', '.join(EXPORTERS)}.")] = "onnx",
    simulator: Annotated[
        str | None,
        typer.Option(
            help="NIR: portable (norse, snntorch, SpikingJelly), norse, snntorch, spikingjelly, sinabs, rockpool."
        ),
    ] = None,
    allow_approximation: Annotated[
        bool, typer.Option("--allow-approximation", help="NIR: sigmoids may become staircases without fine-tuning.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="NIR: input (T, B, ...) as .npy to measure it on; default: a run folder's test data."),
    ] = None,
    max_flip_rate: Annotated[
        float | None, typer.Option(help="NIR: share of spikes that may differ on it; default 0.001.")
    ] = None,
) -> None:
    """Export a network, and check what was written before it is moved into place.

    Example: psu-deploy export runs/digits --to onnx --out out/

    Example: psu-deploy export model.psm --to nir --simulator portable --out out/
    """
    given = {"simulator": simulator, "calibration": calibration, "max_flip_rate": max_flip_rate}
    options = {name: value for name, value in given.items() if value is not None}
    options |= {"allow_approximation": True} if allow_approximation else {}
    if max_flip_rate is not None and not allow_approximation:
        raise InputError("--max-flip-rate limits an approximation; add --allow-approximation if you want one")
    if options and to != "nir":
        raise InputError(f"--{next(iter(options)).replace('_', '-')} is an option of --to nir, not of --to {to}")
    suffix = EXPORTERS[to].suffix if to in EXPORTERS else ""
    if suffix and out.suffix in {room.suffix for room in EXPORTERS.values()} - {suffix} and not out.is_dir():
        raise InputError(f"a file for --to {to} ends in {suffix}, got {out}")
    path = out if suffix and out.suffix == suffix else out / f"model{suffix}"
    with progress() as bar:
        bar.add_task(f"exporting to {to}", total=None)
        network = open_source(source) if allow_approximation else Source(open_machine(source))
        artifact = api.export(network.machine, path, target=to, **_with_data(options, network))
    horizon = "any number of steps" if artifact.horizon is None else f"{artifact.horizon - artifact.latency} steps"
    rows = [
        ("file", artifact.path),
        ("size", f"{artifact.path.stat().st_size:,} bytes"),
        ("fidelity", artifact.fidelity),
        ("defined for", horizon),
        ("latency", f"{artifact.latency} steps"),
        ("machine", artifact.machine_hash[:12]),
    ]
    if to == "nir":
        rows.insert(2, ("written for", simulator or "the NIR specification; for a simulator, add --simulator"))
    rows += [("approximation", text) for text in artifact.approximations]
    table("exported and checked", ("", ""), rows)
    runs = {"portable": "norse", None: None}.get(simulator, simulator)
    hint(f"psu-deploy verify {source} {artifact.path}" + (f" --simulator {runs}" if runs else ""))


def _with_data(options: dict[str, Any], network: Source) -> dict[str, Any]:
    """Calibration data as an array: those named, or the test data of a run."""
    if not options.get("allow_approximation"):
        return options
    named = options.get("calibration")
    return options | {"calibration": network.data if named is None else read_array(named)}
