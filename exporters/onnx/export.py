"""The ONNX exporter: emit, write, load again, check, move into place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from psu_deploy.errors import InputError
from psu_deploy.exporters.onnx.emit import emit
from psu_deploy.exporters.onnx.events import Events, event_layers
from psu_deploy.exporters.onnx.lower import check
from psu_deploy.exporters.onnx.metadata import facts_of
from psu_deploy.exporters.onnx.rounding import Weights, check_weights, rounded
from psu_deploy.exporters.onnx.runner import load
from psu_deploy.exporters.onnx.target import SUFFIX
from psu_deploy.exporters.self_check import check_export
from psu_deploy.files.atomic import atomic_path
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Artifact


def export(
    machine: StateMachine,
    path: str | Path,
    *,
    events: Events = "auto",
    sequence: bool = False,
    weights: Weights = "float32",
) -> Artifact:
    """Write a machine as an ONNX step graph, `(x, state...) -> (y, state...)`, float32.

    Before the file is moved into place, onnxruntime loads it and runs a few steps from a random state that is not
    zero; every spike and output must be what exact arithmetic makes of it. Where a function of the network has no value
    there, it runs from its initial state.

    Args:
        machine: what to export.
        path: file to write, ending in `.onnx`.
        events: which Linear layers on spikes, or on the network's input, add up the rows of what is not zero instead of
            multiplying with all weights, as long as that is little: "auto" = those large enough to gain by it; True =
            all; False = none. Every file computes the same sums, in another order.
        sequence: run a whole sequence in a call, `(x[0..T-1], state...) -> (y[0..T-1], state...)`, instead of a step.
        weights: what those of Linear layers and convolutions are stored as: "float32"; "float16" or "int8" make a file
            that is half or a quarter as large, of rounded numbers: it says so, and `verify` measures what that changes.

    Raises:
        InputError: if the path does not end in `.onnx`, or for other `events`, `sequence` or `weights`.
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
        ArtifactError: if the file cannot be written.
        InternalError: if the written file does not compute what the machine computes.
    """
    target = Path(path)
    if target.suffix != SUFFIX:
        raise InputError(f"an ONNX file must end in {SUFFIX}, got {target}")
    driven = event_layers(machine, events)
    if not isinstance(sequence, bool):
        raise InputError(f"sequence must be True or False, got {sequence!r}")
    check_weights(machine, weights)
    check(machine)  # before its hash is asked for, which an unknown kind has none of
    kind = {"sequence": True} if sequence else {}
    with atomic_path(target) as temporary:
        temporary.write_bytes(emit(machine, facts_of(machine, weights) | kind, driven).SerializeToString())
        runner = load(temporary)
        check_export(rounded(machine, weights), runner)
    return replace(runner.artifact, path=target)
