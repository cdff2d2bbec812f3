"""psu-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from psu_deploy import api
from psu_deploy.cli.console import hint, progress, say, table
from psu_deploy.cli.sources import Source, open_machine, open_source, read_array
from psu_deploy.errors import InputError
from psu_deploy.exporters import EXPORTERS
from psu_deploy.runtime import Artifact


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
        typer.Option(
            "--calibration",
            "--calibrate",
            help="Lava, and approximate NIR: typical input (T, B, ...) as .npy; default: a run folder's test data.",
        ),
    ] = None,
    max_flip_rate: Annotated[
        float | None, typer.Option(help="NIR: share of spikes that may differ on it; default 0.001.")
    ] = None,
    input_range: Annotated[
        str | None, typer.Option(help="Lava: what the largest number at the input stands for: max or percentile.")
    ] = None,
) -> None:
    """Export a network, and check what was written before it is moved into place.

    Example: psu-deploy export runs/digits --to onnx --out out/

    Example: psu-deploy export model.psm --to nir --simulator portable --out out/

    Example: psu-deploy export model.psm --to lava --calibrate x.npy --out out/
    """
    given = {
        "simulator": simulator,
        "allow_approximation": allow_approximation or None,
        "calibration": calibration,
        "max_flip_rate": max_flip_rate,
        "input_range": input_range,
    }
    options = {name: value for name, value in given.items() if value is not None}
    _check_options(options, to)
    suffix = EXPORTERS[to].suffix if to in EXPORTERS else ""
    if suffix and out.suffix in {room.suffix for room in EXPORTERS.values()} - {suffix} and not out.is_dir():
        raise InputError(f"a file for --to {to} ends in {suffix}, got {out}")
    path = out if suffix and out.suffix == suffix else out / f"model{suffix}"
    with progress() as bar:
        bar.add_task(f"exporting to {to}", total=None)
        measures = to == "lava" or allow_approximation
        network = open_source(source) if measures and calibration is None else Source(open_machine(source))
        artifact = api.export(network.machine, path, target=to, **_with_data(options, network, measures))
    if to == "lava":
        say(_report(artifact.path))
    table("exported and checked", ("", ""), _facts(artifact, simulator))
    runs = {"portable": "norse", None: None}.get(simulator, simulator)
    data = () if calibration is None else ("--data", calibration)
    hint("psu-deploy", "verify", source, artifact.path, *data, *(("--simulator", runs) if runs else ()))


def _facts(artifact: Artifact, simulator: str | None) -> list[tuple[str, Any]]:
    """What was written, and what it promises."""
    horizon = "any number of steps" if artifact.horizon is None else f"{artifact.horizon - artifact.latency} steps"
    rows = [
        ("file", artifact.path),
        ("size", f"{artifact.path.stat().st_size:,} bytes"),
        ("fidelity", artifact.fidelity),
        ("defined for", horizon),
        ("latency", f"{artifact.latency} steps"),
        ("machine", artifact.machine_hash[:12]),
    ]
    if artifact.target == "nir":
        rows.insert(2, ("written for", simulator or "the NIR specification; for a simulator, add --simulator"))
    notes = (
        artifact.approximations[:1] if artifact.target == "lava" else artifact.approximations
    )  # alarms are said above
    return [*rows, *(("approximation", text) for text in notes)]


_OPTIONS = {
    "nir": ("simulator", "allow_approximation", "calibration", "max_flip_rate"),
    "lava": ("calibration", "input_range"),
}
"""Target -> its options."""


def _check_options(options: dict[str, Any], to: str) -> None:
    if "max_flip_rate" in options and "allow_approximation" not in options:
        raise InputError("--max-flip-rate limits an approximation; add --allow-approximation if you want one")
    for option in options:
        if option not in _OPTIONS.get(to, ()):
            those = " and ".join(f"--to {target}" for target, known in _OPTIONS.items() if option in known)
            raise InputError(f"--{option.replace('_', '-')} is an option of {those}, not of --to {to}")


def _report(path: Path) -> Any:
    """What rounding did to a network, layer by layer."""
    from psu_deploy.exporters.lava import LavaRunner

    return LavaRunner(path, simulator="integer").report


def _with_data(options: dict[str, Any], network: Source, measures: bool) -> dict[str, Any]:
    """Calibration data as an array: those named, or the test data of a run."""
    if not measures:
        return options
    named = options.get("calibration")
    return options | {"calibration": network.data if named is None else read_array(named)}
