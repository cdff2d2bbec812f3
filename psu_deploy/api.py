"""The main road in three functions: export, load, verify."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy import exporters
from psu_deploy.capture import floating_like, to_state_machine, trace_module
from psu_deploy.errors import InputError
from psu_deploy.machine import StateMachine, Trace, ops
from psu_deploy.machine.inputs import check_sequence
from psu_deploy.runtime import Artifact, Runner
from psu_deploy.verify import Arithmetic, Comparison, EquivalenceReport, Judge, Rule, aligned_run, compare, merge

_DECISIONS_AT_ONCE = 8_000_000
"""Spikes of one run held in memory at a time, with all that is known about each: about 100 bytes per form."""


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
    model: nn.Module | StateMachine, artifact: Artifact | str | Path | Runner | StateMachine, x: Any
) -> EquivalenceReport:
    """Run a network in every form it has, and compare spike by spike.

    A module is run in parallel, as its state machine, and as the artifact: two comparisons. A machine and its artifact:
    one. Spikes are compared exactly; see `EquivalenceReport.ok` for what counts as equal. An artifact that computes
    with rounded numbers (Lava) comes in twice: their exact definition against the machine, which measures what rounding
    changed, and its engine against that definition, which it must repeat number for number.

    Args:
        model: the module or the machine.
        artifact: what was exported from it, its path, an open runner, or a machine (module against machine only).
        x: input, (T, B, *input_shape), float32, numpy or torch.
    """
    machine = _machine(model, None if isinstance(model, StateMachine) else _features(x))
    x = _numpy_like(x, model)
    check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
    runner = load(artifact) if isinstance(artifact, Artifact | str | Path) else artifact
    notes = _notes(machine, runner, x)
    comparisons = _compare(machine, _forms(model, machine, runner), x)
    return EquivalenceReport(comparisons, (*notes, *_unexercised(comparisons[0])))


@dataclass(frozen=True)
class _Form:
    """One way to run a network.

    Args:
        name: as the report shows it.
        run: x -> trace, aligned to x.
        judge: the machine that computes what it computes.
        arithmetic: in which operations it computes otherwise than that machine.
        rule: what is asked of it, held against the form before it.
    """

    name: str
    run: Callable[[Any], Trace]
    judge: StateMachine
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    rule: Rule = "judged"


def _forms(model: nn.Module | StateMachine, machine: StateMachine, runner: Runner | StateMachine) -> list[_Form]:
    forms = [_Form("machine", partial(aligned_run, machine, machine.trace), machine)]
    if isinstance(model, nn.Module):
        unfolded = to_state_machine(model, machine.input_shape, simplified=False)
        forms.insert(0, _Form("module", lambda x: trace_module(model, machine, _like_parameters(x, model)), unfolded))
    if not isinstance(runner, StateMachine):
        forms += _forms_of(runner, machine)
    elif len(forms) == 1:
        forms.append(_Form("other machine", partial(aligned_run, runner, runner.trace), machine))
    else:
        forms[1] = _Form("machine", partial(aligned_run, runner, runner.trace), machine)
    return forms


def _forms_of(runner: Runner, machine: StateMachine) -> list[_Form]:
    """An artifact on its engine, behind the exact definition of it where there is one.

    A runner may say what it is called, how its rounding differs (`arithmetic`), that it computes with rounded numbers
    (`rounds`), which runner it must repeat (`repeats`), and what is worth knowing about its run on x (`notes(x)`).
    """
    definition = getattr(runner, "repeats", None)
    before = [] if definition is None else _forms_of(definition, machine)
    name = getattr(runner, "name", runner.artifact.target)
    arithmetic = getattr(runner, "arithmetic", Arithmetic())
    rule: Rule = "exact" if before else "measured" if getattr(runner, "rounds", False) else "judged"
    return [*before, _Form(name, partial(aligned_run, machine, runner.trace), machine, arithmetic, rule)]


def _compare(machine: StateMachine, forms: Sequence[_Form], x: Any) -> tuple[Comparison, ...]:
    """Every form against the next, as many samples at a time as fit into memory."""
    neurons = sum(prod(machine.shapes[name]) for name in machine.spiking)
    samples = max(1, _DECISIONS_AT_ONCE // max(1, neurons * len(x)))
    starts = range(0, x.shape[1], samples)
    parts = [_compare_samples(machine, forms, x[:, start : start + samples]) for start in starts]
    return tuple(merge(list(zip(starts, column, strict=True))) for column in zip(*parts, strict=True))


def _compare_samples(machine: StateMachine, forms: Sequence[_Form], x: Any) -> list[Comparison]:
    judges = {
        (form.judge, form.arithmetic): Judge(form.judge, x, precision=str(x.dtype), arithmetic=form.arithmetic)
        for form in forms
    }
    runs = [(form.name, form.run(x)) for form in forms]
    pairs = zip(pairwise(forms), pairwise(runs), strict=True)
    return [
        compare(machine, x, a, b, judges=(judges[f.judge, f.arithmetic], judges[g.judge, g.arithmetic]), rule=g.rule)
        for (f, g), (a, b) in pairs
    ]


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


def _unexercised(comparison: Comparison) -> list[str]:
    """Layers that never or always fired: equal, but little is proven by it."""
    words = {0.0: "never fired", 1.0: "fired at every step"}
    return [
        f"layer {layer.name!r} {words[layer.firing_rate]} on this input, which proves little about it; try other data"
        for layer in comparison.layers
        if layer.firing_rate in words
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


def _like_parameters(x: Any, model: nn.Module) -> Tensor:
    """x on the module's device, in its dtype."""
    tensor = torch.from_numpy(np.array(x))
    has_numbers = any(t.is_floating_point() for t in (*model.parameters(), *model.buffers()))
    return tensor.to(floating_like(model)) if has_numbers else tensor


def _check_same_input(input_shape: tuple[int, ...], machine: StateMachine) -> None:
    if input_shape != machine.input_shape:
        raise InputError(
            f"the artifact takes input of shape {input_shape}, the model {machine.input_shape}: "
            "it was exported from another model"
        )


def _note_hash(content_hash: str, machine: StateMachine, notes: list[str]) -> None:
    if content_hash != machine.content_hash:
        notes.append(
            "the artifact was made from other numbers than this model holds now "
            f"(machine {content_hash[:12]}, here {machine.content_hash[:12]}); export it again if that is not intended"
        )
