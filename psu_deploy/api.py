"""The main road in three functions: export, load, verify."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy import exporters
from psu_deploy.capture import to_state_machine
from psu_deploy.errors import InputError, PsuDeployError
from psu_deploy.forms import compare_forms, forms_of
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.inputs import check_sequence
from psu_deploy.runtime import Artifact, Runner, Structure
from psu_deploy.verify import EquivalenceReport, check_kinds


def export(
    model: nn.Module | StateMachine,
    path: str | Path,
    *,
    target: str = "onnx",
    input_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> Artifact:
    """Export a network, and check what was written before it is moved into place.

    Args:
        model: a state machine, or a module, which is captured first.
        path: file to write; its suffix is the target's (`.onnx`, `.nir`, `.net`).
        target: one of `psu_deploy.exporters.EXPORTERS`.
        input_shape: features of one step, needed for a module.
        options: of the target, such as `simulator="portable"` for NIR or `calibration=x` for Lava.

    Returns:
        What was written and what it promises.

    Raises:
        UnsupportedModelError: listing everything that cannot be exported.
        ArtifactError: if the file cannot be written.
        MissingExtraError: if the target's dependencies are not installed.
    """
    write = exporters.exporter(target)
    _check_options(write, options, f"the target {target!r}")
    return write(_machine(model, input_shape), Path(path), **options)


def load(artifact: Artifact | str | Path, **options: Any) -> Runner:
    """Open an exported file on the engine it was made for.

    Args:
        artifact: what `export` returned, or the path of its file.
        options: of the runner, such as `threads=1` for ONNX or `simulator="norse"` for NIR.

    Raises:
        ArtifactError: if the file is missing, damaged or not ours.
        MissingExtraError: if the engine is not installed.
    """
    path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
    open_file = exporters.loader(path)
    _check_options(open_file, options, f"what runs {path.name}")
    return open_file(path, **options)


def verify(
    model: nn.Module | StateMachine,
    artifact: Artifact | str | Path | Runner | StateMachine,
    x: Any,
    *,
    allow_silent: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> EquivalenceReport:
    """Hold an artifact against its network: first what it holds, then what it does, in every form, spike by spike.

    Before anything runs, the artifact's graph and numbers are compared with what exporting the network writes, one by
    one. Then a module is run in parallel, as its state machine, and as the artifact: two comparisons. A machine and its
    artifact: one. Spikes are compared exactly; see `EquivalenceReport.ok` for what counts as equal. An artifact that
    computes with rounded numbers (Lava) comes in twice: their exact definition against the machine, which measures what
    rounding changed, and its engine against that definition, which it must repeat number for number.

    Args:
        model: the module or the machine.
        artifact: what was exported from it, its path, an open runner, or a machine (module against machine only).
        x: input, (T, B, *input_shape), float32, numpy or torch.
        allow_silent: call a network equivalent although nothing in it fires on x; what speaks for it then is that the
            artifact holds the numbers of an export.
        progress: told how many of how many runs are done, a run being one form on as many samples as fit into memory.

    Raises:
        UnsupportedModelError: if the network holds something whose rounding nothing is known about.
        InputError: if x does not fit, or the artifact takes input of another shape.
    """
    machine = _machine(model, None if isinstance(model, StateMachine) else _features(x))
    check_kinds(machine)
    x = _numpy_like(x, model)
    check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
    runner = load(artifact) if isinstance(artifact, Artifact | str | Path) else artifact
    notes = _notes(machine, runner, x)
    structure = _structure(machine, runner)
    try:
        comparisons = compare_forms(machine, forms_of(model, machine, runner), x, progress)
    except PsuDeployError as error:
        if not structure.differences:
            raise
        return EquivalenceReport((), (*notes, f"it does not run: {error}"), structure, allow_silent)
    return EquivalenceReport(comparisons, tuple(notes), structure, allow_silent)


def _structure(machine: StateMachine, runner: Any) -> Structure:
    """What the artifact holds, against what exporting the machine writes."""
    if isinstance(runner, StateMachine):
        same = runner.content_hash == machine.content_hash
        return Structure() if same else Structure(unchecked="the two machines hold other layers or numbers")
    if not hasattr(runner, "structure"):
        return Structure(unchecked=f"what runs {runner.artifact.target} files cannot hold them against an export")
    found: Structure = runner.structure(machine)
    return found


def _notes(machine: StateMachine, runner: Any, x: Any) -> list[str]:
    """What a reader should know besides; raises `InputError` if the artifact cannot be that of the model."""
    notes = []
    steps = machine.max_steps
    if steps is not None and len(x) < steps:
        notes.append(f"x has {len(x)} of the {steps} steps the network is defined for (axis 0 is time)")
    if machine.latency:
        late = f"the machine answers {machine.latency} step(s) late"
        notes.append(f"{late}; its rows are compared with those they belong to")
    for name in machine.spiking:
        layer = next(node.layer for node in machine.nodes if node.name == name)
        if isinstance(layer, ops.BernoulliNeuron):
            notes.append(
                f"layer {name!r} fires at random: what holds in general are its firing probabilities, sigmoid(V); "
                f"the spikes are equal because every form draws them from seed {layer.seed}"
            )
    notes += _shared_seeds(machine)
    if not isinstance(runner, StateMachine) and not hasattr(runner, "trace"):
        raise InputError(f"artifact must be an Artifact, a path, a runner or a machine, got {type(runner).__name__}")
    _check_same_input(runner.input_shape, machine)
    other = runner.content_hash if isinstance(runner, StateMachine) else runner.artifact.machine_hash
    _note_hash(other, machine, notes)
    if isinstance(runner, StateMachine):
        return notes
    own = runner.notes(x) if hasattr(runner, "notes") else []
    return [*notes, *runner.artifact.approximations, *own]


def _shared_seeds(machine: StateMachine) -> list[str]:
    """Layers that draw the very same noise, which makes them fire together."""
    seeds: dict[int, list[str]] = {}
    for node in machine.nodes:
        if isinstance(node.layer, ops.BernoulliNeuron):
            seeds.setdefault(node.layer.seed, []).append(node.name)
    return [
        f"layers {', '.join(names)} fire at random from the same seed {seed}, so not independently; give each its own"
        for seed, names in seeds.items()
        if len(names) > 1
    ]


def _check_options(function: Callable[..., Any], options: dict[str, Any], whose: str) -> None:
    """Raise `InputError` if a target has no such option."""
    known = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    names = [name for name, p in known.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(names))
    if unknown:
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        raise InputError(f"{whose} has no option {', '.join(map(repr, unknown))}; {takes}")


def _machine(model: nn.Module | StateMachine, input_shape: tuple[int, ...] | None) -> StateMachine:
    if isinstance(model, StateMachine):
        return model
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch module or a StateMachine, got {type(model).__name__}")
    if input_shape is None:
        raise InputError("a module needs input_shape, the features of one step, such as input_shape=(700,)")
    return to_state_machine(model, input_shape)


def _features(x: Any) -> tuple[int, ...]:
    if not isinstance(x, np.ndarray | Tensor) or x.ndim < 3:
        raise InputError(f"x must be time-first, (T, B, *features); got {getattr(x, 'shape', type(x).__name__)}")
    return tuple(x.shape[2:])


def _numpy_like(x: Any, model: nn.Module | StateMachine) -> Any:
    """x as numpy; in single precision where the module computes in it, so that every form gets the same numbers."""
    x = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    tensors = (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()
    single = any(t.dtype is torch.float32 for t in tensors)
    return x.astype(np.float32) if single and x.dtype == np.float64 else x


def _check_same_input(input_shape: tuple[int, ...], machine: StateMachine) -> None:
    if input_shape != machine.input_shape:
        raise InputError(
            f"the artifact takes input of shape {input_shape}, the model {machine.input_shape}: "
            "it was exported from another model"
        )


def _note_hash(content_hash: str, machine: StateMachine, notes: list[str]) -> None:
    if content_hash != machine.content_hash:
        notes.append(
            f"the artifact says that it was made from another network (machine {content_hash[:12]}, here "
            f"{machine.content_hash[:12]}); if that is not intended, export it again, or name the network it came from"
        )
