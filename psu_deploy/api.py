"""The main road in three functions: export, load, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from psu_deploy.exporters import exporter, loader
from psu_deploy.forms import Progress, verify_forms
from psu_deploy.given import Converters, check_options, features_of, machine_of, numpy_for
from psu_deploy.machine import StateMachine
from psu_deploy.report import Evidence
from psu_deploy.runtime import Artifact, Runner
from psu_deploy.verify import EquivalenceReport


def export(
    model: nn.Module | StateMachine,
    path: str | Path,
    *,
    target: str = "onnx",
    input_shape: tuple[int, ...] | None = None,
    converters: Converters | None = None,
    **options: Any,
) -> Artifact:
    """Export a network, and check what was written before it is moved into place.

    Args:
        model: a state machine, or a module, which is captured first.
        path: file to write; its suffix is the target's (`.onnx`, `.nir`, `.net`).
        target: one of `psu_deploy.exporters.EXPORTERS`.
        input_shape: features of one step, needed for a module.
        converters: for layers of your own in a module: module type -> function(module, features) that returns a layer
            of `psu_deploy.machine.ops`; see `psu_deploy.to_state_machine`.
        options: of the target, such as `simulator="portable"` for NIR or `calibration=x` for Lava.

    Returns:
        What was written and what it promises.

    Raises:
        UnsupportedModelError: listing everything that cannot be exported.
        ArtifactError: if the file cannot be written.
        MissingExtraError: if the target's dependencies are not installed.

    >>> import tempfile
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(nn.Linear(8, 32), psu.PSU(threshold=0.1), nn.Linear(32, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifact = psu.export(model, f"{folder}/net.onnx", input_shape=(8,))
    ...     print(artifact.target, artifact.fidelity, artifact.horizon, artifact.latency)
    onnx faithful None 0
    """
    write = exporter(target)
    check_options(write, options, f"the target {target!r}")
    return write(machine_of(model, input_shape, converters), Path(path), **options)


def load(artifact: Artifact | str | Path, **options: Any) -> Runner:
    """Open an exported file on the engine it was made for.

    Args:
        artifact: what `export` returned, or the path of its file.
        options: of the runner, such as `threads=1` for ONNX or `simulator="norse"` for NIR.

    Returns:
        A runner: `reset`, `step` (B, *input_shape) -> (B, *features), `run` and `trace` of a sequence (T, B, ...).

    Raises:
        ArtifactError: if the file is missing, damaged or not ours.
        MissingExtraError: if the engine is not installed.

    >>> import tempfile
    >>> import numpy as np
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(nn.Linear(8, 32), psu.PSU(threshold=0.1), nn.Linear(32, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     runner = psu.load(psu.export(model, f"{folder}/net.onnx", input_shape=(8,)), threads=1)
    ...     runner.reset(batch_size=4)
    ...     print(runner.step(np.zeros((4, 8), np.float32)).shape)
    (4, 10)
    """
    path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
    open_file = loader(path)
    check_options(open_file, options, f"what runs {path.name}")
    return open_file(path, **options)


def verify(
    model: nn.Module | StateMachine,
    artifact: Artifact | str | Path | Runner | StateMachine,
    x: Any,
    *,
    allow_silent: bool = False,
    converters: Converters | None = None,
    progress: Progress | None = None,
    evidence: Evidence | None = None,
) -> EquivalenceReport:
    """Hold an artifact against its network: first what it holds, then what it does, in every form, spike by spike.

    Before anything runs, the artifact's graph and numbers are compared with what exporting the network writes, one by
    one. Then a module is run in parallel, as its state machine, and as the artifact: two comparisons. A machine and its
    artifact: one. Spikes are compared exactly; see `EquivalenceReport.ok` for what counts as equal. An artifact that
    computes with rounded numbers (Lava) comes in twice: their exact definition against the machine, which measures what
    rounding changed, and its engine against that definition, which it must repeat number for number. So does one with
    rounded weights (ONNX, if asked for): the machine with these weights against the machine, which is measured, and its
    engine against the machine with these weights, which is proven as ever.

    Args:
        model: the module or the machine.
        artifact: what was exported from it, its path, an open runner, or a machine (module against machine only).
        x: input, (T, B, *input_shape), float32, numpy or torch.
        allow_silent: call a network equivalent although nothing in it fires on x; what speaks for it then is that the
            artifact holds the numbers of an export.
        converters: for layers of your own in a module, those that it was exported with.
        progress: told how many of how many runs are done, a run being one form on as many samples as fit into memory.
        evidence: collects what `psu_deploy.write_report` makes a page of.

    Returns:
        What was found: `report.ok`, `report.verdict`, and as text a table, layer by layer.

    Raises:
        UnsupportedModelError: if the network holds something whose rounding nothing is known about.
        InputError: if x does not fit, or the artifact takes input of another shape.

    >>> import tempfile
    >>> import torch
    >>> import psu_deploy as psu
    >>> model = psu.SpikingSequential(nn.Linear(8, 32), psu.PSU(threshold=0.1), nn.Linear(32, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifact = psu.export(model, f"{folder}/net.onnx", input_shape=(8,))
    ...     report = psu.verify(model, artifact, torch.ones(20, 4, 8))
    ...     print(report.ok, report.spikes_compared)
    True 5120
    """
    features = None if isinstance(model, StateMachine) else features_of(x)
    machine = machine_of(model, features, converters)
    runner = load(artifact) if isinstance(artifact, Artifact | str | Path) else artifact
    return verify_forms(
        model,
        machine,
        runner,
        numpy_for(x, model),
        allow_silent=allow_silent,
        converters=converters,
        progress=progress,
        witness=evidence,
    )
