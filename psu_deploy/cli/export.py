"""psu-deploy export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psu_deploy import api
from psu_deploy.cli.console import hint, progress, table
from psu_deploy.cli.sources import open_source
from psu_deploy.exporters import EXPORTERS


def export(
    source: Annotated[Path, typer.Argument(help="A run folder, or a saved machine (.psm).")],
    out: Annotated[Path, typer.Option(help="File to write, or a folder to write model.* into.")],
    to: Annotated[str, typer.Option(help=f"Target: {', '.join(EXPORTERS)}.")] = "onnx",
) -> None:
    """Export a network, and check what was written before it is moved into place.

    Example: psu-deploy export runs/digits --to onnx --out out/
    """
    suffix = EXPORTERS[to].suffix if to in EXPORTERS else ""
    path = out if suffix and out.suffix == suffix else out / f"model{suffix}"
    with progress() as bar:
        bar.add_task(f"exporting to {to}", total=None)
        artifact = api.export(open_source(source).machine, path, target=to)
    horizon = "any number of steps" if artifact.horizon is None else f"{artifact.horizon - artifact.latency} steps"
    rows = [
        ("file", artifact.path),
        ("size", f"{artifact.path.stat().st_size:,} bytes"),
        ("fidelity", artifact.fidelity),
        ("defined for", horizon),
        ("latency", f"{artifact.latency} steps"),
        ("machine", artifact.machine_hash[:12]),
    ]
    table("exported and checked", ("", ""), rows)
    hint(f"psu-deploy verify {source} {artifact.path}")
