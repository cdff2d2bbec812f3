"""The NIR exporter: lower, write, read again, check, move into place."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nir
import numpy as np

from psu_deploy.errors import InputError, InternalError, MissingExtraError
from psu_deploy.exporters.nir.approximate import LEVELS, approximated, with_staircases
from psu_deploy.exporters.nir.emit import emit
from psu_deploy.exporters.nir.engines import ENGINES, READS
from psu_deploy.exporters.nir.files import GROUP, read_graph
from psu_deploy.exporters.nir.lower import check
from psu_deploy.exporters.nir.metadata import header_of
from psu_deploy.exporters.nir.runner import NirRunner, installed
from psu_deploy.exporters.nir.target import SUFFIX, TARGETS, NirTarget, target_named
from psu_deploy.files.atomic import atomic_path
from psu_deploy.files.hdf5 import vouch_for
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact
from psu_deploy.verify import Judge

_CHECK_STEPS = 6


def export(
    machine: StateMachine,
    path: str | Path,
    *,
    simulator: str | None = None,
    allow_approximation: bool = False,
    calibration: Any = None,
    max_flip_rate: float = 0.001,
) -> Artifact:
    """Write a machine as a NIR graph, forward Euler with dt = 1e-4 s per step.

    Before the file is moved into place it is read again and run for a few steps, in our own executor and in the
    simulator it was written for if that is installed; every spike and output must be what exact arithmetic makes of it.

    Args:
        machine: what to export.
        path: file to write, ending in `.nir`.
        simulator: whose dialect: "portable" (norse, snntorch and SpikingJelly), "norse", "snntorch", "spikingjelly",
            "sinabs", "rockpool"; None = the canonical graph, the specification's own, which no simulator reads today.
        allow_approximation: whether sigmoids may become staircases without fine-tuning. The artifact says so.
        calibration: input (T, B, *input_shape), float32, on which the approximation is measured; needed with it.
        max_flip_rate: share of spikes that may differ on it; the fewest levels that stay below it are taken.

    Raises:
        InputError: if the path does not end in `.nir`, there is no such simulator, or the calibration does not fit.
        UnsupportedModelError: listing everything that NIR, or the simulator, cannot express.
        ArtifactError: if the file cannot be written.
        MissingExtraError: if only the simulator itself can check the file, and it is not installed.
        InternalError: if the written file does not compute what the machine computes.
    """
    destination = Path(path)
    if destination.suffix != SUFFIX:
        raise InputError(f"a NIR file must end in {SUFFIX}, got {destination}")
    if calibration is not None and not allow_approximation:
        raise InputError("calibration data measure an approximation; pass allow_approximation=True if you want one")
    target = target_named(simulator)
    check(with_staircases(machine, LEVELS[0]) if allow_approximation else machine)  # the hash below needs known kinds
    facts: dict[str, Any] = {"machine_hash": machine.content_hash, "fidelity": "faithful", "approximations": []}
    if allow_approximation:
        found = approximated(machine, calibration, max_flip_rate)
        machine = found.machine
        if found.levels is not None:
            facts |= {"fidelity": "approximate", "approximations": list(found.notes), "levels": found.levels}
    graph = emit(machine, target, facts)
    with atomic_path(destination) as temporary:
        temporary.write_bytes(_hdf5(graph))
        vouch_for(temporary, (GROUP,))
        written = read_graph(temporary)
        self_check(machine, temporary, written, target)
    return header_of(destination, written).artifact(destination)


def _hdf5(graph: nir.NIRGraph) -> bytes:
    """What `nir.write` writes. In memory: where the disk is full, HDF5 ends the process."""
    buffer = io.BytesIO()
    nir.write(buffer, graph)
    return buffer.getvalue()


def self_check(machine: StateMachine, path: Path, graph: nir.NIRGraph, target: NirTarget) -> None:
    """Run what was written, as read again, and judge every spike and output by exact arithmetic."""
    engines = [name for name in READS[target.name] if installed(name)]
    if not engines:
        needed = READS[target.name][0]
        try:
            ENGINES[needed].installed()
        except MissingExtraError as error:
            raise MissingExtraError(f"a file for {needed} can be checked in {needed} alone: {error}") from error
    random = np.random.default_rng(0)
    x = (random.random((_CHECK_STEPS, 2, *machine.input_shape)) < 0.3).astype(np.float32)
    x = np.repeat(x[:1], _CHECK_STEPS, axis=0) if machine.static_input else x
    for name in engines:
        runner = NirRunner.of(path, graph, name)
        certificate = Judge(machine, x, arithmetic=TARGETS[name].arithmetic).certify(runner.trace(x))
        if not certificate.ok:
            raise InternalError(
                f"the exported graph, run in {name}, does not compute what the machine computes: "
                f"{len(certificate.disputed)} disputed spike(s){'; '.join(['', *certificate.wrong])}. "
                "Nothing was written; please report this model"
            )
