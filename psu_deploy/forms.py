"""The forms that a network has, module, machine, artifact: run side by side, each compared with the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy.capture import floating_like, to_state_machine, trace_module
from psu_deploy.errors import HorizonError, InputError, PsuDeployError
from psu_deploy.given import Converters
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.inputs import check_sequence
from psu_deploy.runtime import Runner
from psu_deploy.verify import (
    Arithmetic,
    Comparison,
    EquivalenceReport,
    Judge,
    Rule,
    aligned_run,
    check_kinds,
    compare,
    merge,
)
from psu_deploy.verify.notes import notes_on
from psu_deploy.verify.origin import another_network, structure_of
from psu_deploy.verify.witness import Seen, Witness

_DECISIONS_AT_ONCE = 8_000_000
"""Spikes of one run held in memory at a time, with all that is known about each: about 100 bytes per form."""


Progress = Callable[[int, int], None]
"""Told how many of how many runs are done."""


@dataclass(frozen=True)
class Form:
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


def verify_forms(
    model: nn.Module | StateMachine,
    machine: StateMachine,
    runner: Runner | StateMachine,
    x: Any,
    *,
    allow_silent: bool = False,
    converters: Converters | None = None,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> EquivalenceReport:
    """Hold what an artifact is and does against its network; see `psu_deploy.verify`.

    Raises:
        UnsupportedModelError: if the network holds something whose rounding nothing is known about.
        InputError: if x does not fit, the runner is none, or its artifact takes input of another shape.
    """
    check_kinds(machine)
    if not isinstance(runner, Runner | StateMachine):
        raise InputError(
            f"artifact must be an Artifact, a path, a machine or a runner, got {type(runner).__name__}; what runs the "
            "files of a target of your own derives from psu_deploy.runtime.Runner"
        )
    another = another_network(machine, runner)
    try:
        check_sequence(x, machine.input_shape, machine.max_steps, ("float32", "float64"))
        notes = (*([another] if another else []), *notes_on(machine, x), *_own_notes(runner, x))
        forms = forms_of(model, machine, runner, converters)
        if witness is not None:
            artifact = None if isinstance(runner, StateMachine) else runner.artifact
            witness.begin(machine, x, artifact, [(a.name, b.name) for a, b in pairwise(forms)])
        return _compared(machine, forms, x, runner, notes, allow_silent, progress, witness)
    except (InputError, HorizonError) as error:
        if another:
            raise InputError(f"{another}. Besides, {error}") from error
        raise


def _compared(
    machine: StateMachine,
    forms: Sequence[Form],
    x: Any,
    runner: Runner | StateMachine,
    notes: tuple[str, ...],
    allow_silent: bool,
    progress: Progress | None,
    witness: Witness | None,
) -> EquivalenceReport:
    """Number for number first, then form by form: a file that holds other numbers need not run."""
    structure = structure_of(machine, runner)
    try:
        comparisons = compare_forms(machine, forms, x, progress, witness)
    except HorizonError as error:
        if isinstance(runner, StateMachine):
            raise
        # x is no longer than the machine allows, so the artifact ends before it
        early = Comparison(forms[0].name, forms[-1].name, (), (), float("nan"), (f"it ends too early: {error}",), None)
        return EquivalenceReport((early,), notes, structure, allow_silent)
    except PsuDeployError as error:
        if not structure.differences:
            raise
        return EquivalenceReport((), (*notes, f"it does not run: {error}"), structure, allow_silent)
    return EquivalenceReport(comparisons, notes, structure, allow_silent)


def _own_notes(runner: Runner | StateMachine, x: Any) -> list[str]:
    return [] if isinstance(runner, StateMachine) else [*runner.artifact.approximations, *runner.notes(x)]


def forms_of(
    model: nn.Module | StateMachine,
    machine: StateMachine,
    runner: Runner | StateMachine,
    converters: Converters | None = None,
) -> list[Form]:
    """Every form there is of a network, in the order in which they are made of each other.

    Args:
        model: the module, or its machine.
        machine: what the module was captured as; the machine itself.
        runner: of the artifact, or another machine.
        converters: those that the module was captured with.
    """
    forms = [Form("machine", partial(aligned_run, machine, machine.trace), machine)]
    if isinstance(model, nn.Module):
        unfolded = to_state_machine(model, machine.input_shape, converters=converters, simplified=False)
        forms.insert(0, Form("module", lambda x: trace_module(model, machine, like_parameters(x, model)), unfolded))
    if not isinstance(runner, StateMachine):
        forms += _runner_forms(runner, machine)
    elif len(forms) == 1:
        forms.append(Form("other machine", partial(aligned_run, runner, runner.trace), machine))
    else:
        forms[1] = Form("machine", partial(aligned_run, runner, runner.trace), machine)
    return forms


def _runner_forms(runner: Runner, machine: StateMachine) -> list[Form]:
    """An artifact on its engine, behind the exact definition of it, or of its rounded numbers, where there is one."""
    definition, stand_in = runner.repeats, runner.stand_in(machine)
    if stand_in is not machine:
        rounded = Form("rounded machine", partial(aligned_run, stand_in, stand_in.trace), stand_in, rule="rounded")
        return [rounded, Form(runner.name, partial(aligned_run, machine, runner.trace), stand_in, runner.arithmetic)]
    before = [] if definition is None else _runner_forms(definition, machine)
    rule: Rule = "exact" if before else "measured" if runner.rounds else "judged"
    return [*before, Form(runner.name, partial(aligned_run, machine, runner.trace), machine, runner.arithmetic, rule)]


def compare_forms(
    machine: StateMachine,
    forms: Sequence[Form],
    x: Any,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> tuple[Comparison, ...]:
    """Every form against the next, as many samples at a time as fit into memory."""
    starts = starts_of(machine, x)
    samples = starts.step
    forms = forms if progress is None else _watched(forms, len(starts), progress)
    parts = []
    for start in starts:
        seen: list[Seen] = []
        told = None if witness is None else seen.append
        parts.append(_compare_samples(machine, forms, x[:, start : start + samples], told))
        if witness is not None:
            witness.see(start, seen)
    return tuple(merge(list(zip(starts, column, strict=True))) for column in zip(*parts, strict=True))


def starts_of(machine: StateMachine, x: Any) -> range:
    """The first sample of every part of a batch, its step the number of samples that fit into memory at a time."""
    neurons = sum(prod(machine.shapes[name]) for name in machine.spiking)
    return range(0, x.shape[1], max(1, _DECISIONS_AT_ONCE // max(1, neurons * len(x))))


def _watched(forms: Sequence[Form], times: int, progress: Progress) -> list[Form]:
    """Forms that say so when they have run."""
    total, done = times * len(forms), count(1)

    def run(form: Form, x: Any) -> Trace:
        trace = form.run(x)
        progress(next(done), total)
        return trace

    progress(0, total)
    return [replace(form, run=partial(run, form)) for form in forms]


def _compare_samples(
    machine: StateMachine, forms: Sequence[Form], x: Any, told: Callable[[Seen], object] | None
) -> list[Comparison]:
    judges = {
        (form.judge, form.arithmetic): Judge(form.judge, x, precision=str(x.dtype), arithmetic=form.arithmetic)
        for form in forms
    }
    runs = [(form.name, form.run(x)) for form in forms]
    pairs = zip(pairwise(forms), pairwise(runs), strict=True)
    return [
        compare(
            machine,
            x,
            a,
            b,
            judges=(judges[f.judge, f.arithmetic], judges[g.judge, g.arithmetic]),
            rule=g.rule,
            told=told,
        )
        for (f, g), (a, b) in pairs
    ]


def like_parameters(x: Any, model: nn.Module) -> Tensor:
    """x on the module's device, in its dtype."""
    tensor = torch.from_numpy(np.array(x))
    has_numbers = any(t.is_floating_point() for t in (*model.parameters(), *model.buffers()))
    return tensor.to(floating_like(model)) if has_numbers else tensor
