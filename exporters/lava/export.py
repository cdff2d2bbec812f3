"""The Lava exporter: lower, quantise, measure, write, read again, check, move into place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import InputError, InternalError
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.pipeline import report_path, rounded
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.exporters.lava.emit import as_hdf5
from psu_deploy.exporters.lava.metadata import LIBRARIES, header_of
from psu_deploy.exporters.lava.read import GROUPS, read
from psu_deploy.exporters.lava.target import FORMAT, SUFFIX
from psu_deploy.files.atomic import atomic_path, write_whole
from psu_deploy.files.hdf5 import vouch_for
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact


def export(machine: StateMachine, path: str | Path, *, calibration: Any = None, input_range: str = "max") -> Artifact:
    """Write a machine as an integer network in lava-dl's HDF5: int8 weights, Loihi-2-style fixed point.

    Beside the file comes the quantisation report, `<name>.quantisation.json`. Before both are moved into place the file
    is read again and must compute, spike for spike, what was to be written.

    Args:
        machine: what to export.
        path: file to write, ending in `.net`.
        calibration: input (T, B, *input_shape), float32, numpy: gives the input its scale, and measures what rounding
            does. That no state overflows is proven for every input, whatever this is.
        input_range: "max": the largest input met is the largest there is; "percentile": the 99.9th percentile is.

    Raises:
        InputError: if the path does not end in `.net`, or there is no calibration data, or it does not fit.
        UnsupportedModelError: listing everything that Lava cannot express, or whose states do not fit into 24 bits.
        ArtifactError: if the file cannot be written.
        InternalError: if the written file does not compute what it should.
    """
    destination = Path(path)
    if destination.suffix != SUFFIX:
        raise InputError(f"a lava-dl network file must end in {SUFFIX}, got {destination}")
    made = rounded(machine, calibration, input_range, "Lava", LIBRARIES)
    metadata = made.metadata | {"format": FORMAT}
    with atomic_path(destination) as temporary:
        temporary.write_bytes(as_hdf5(made.network, metadata))
        vouch_for(temporary, GROUPS)
        _self_check(temporary, made.network, made.sample)
        write_whole(report_path(destination), (json.dumps(made.report.to_dict(), indent=2) + "\n").encode())
    return header_of(metadata).artifact(destination)


def _self_check(path: Path, network: IntegerNetwork, x: Any) -> None:
    """What was written, as read again, sends what was to be written."""
    written, _ = read(path)
    numbers = encode(network, x)
    pairs = zip(
        Reference(network, x.shape[1]).advance(numbers), Reference(written, x.shape[1]).advance(numbers), strict=True
    )
    if not all(np.array_equal(a, b) for a, b in pairs):
        raise InternalError("the written file does not compute what it should. Please report this model")
