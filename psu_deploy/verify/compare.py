"""Two runs of one network, compared spike by spike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.schedule import OUTPUT
from psu_deploy.verify.certificate import Certificate, Decision, Judge
from psu_deploy.verify.comparison import Answers, Comparison, LayerComparison, Rule
from psu_deploy.verify.rounding import Ties
from psu_deploy.verify.usefulness import open_decisions, open_outputs, unbounded
from psu_deploy.verify.witness import Seen


def compare(
    machine: StateMachine,
    x: Any,
    first: tuple[str, Trace],
    second: tuple[str, Trace],
    *,
    state: Mapping[str, Any] | None = None,
    precision: str = "float32",
    judges: tuple[Judge, Judge] | None = None,
    rule: Rule = "judged",
    told: Callable[[Seen], object] | None = None,
) -> Comparison:
    """Compare two runs of a machine on the same input.

    Spikes are compared exactly. Each run is also judged on its own by exact arithmetic, so that a flip is told apart
    from what merely follows from it.

    Args:
        machine: the network both runs claim to be.
        x: their input, (T, B, *input_shape).
        first: name and trace of the run that counts as expected.
        second: name and trace of the run under test.
        state: where both started; None = the initial state.
        precision: of both runs' arithmetic.
        judges: of the first and of the second run, where they compute the same through other operations, such as a
            module whose BatchNorm is not folded; None = the machine judges both.
        rule: what is asked of the second run; see `Comparison.rule`. Judges are needed for "judged" alone.
        told: gets both runs and what exact arithmetic says of them, unless something is missing from one.
    """
    names, traces = (first[0], second[0]), (_numpy_trace(first[1]), _numpy_trace(second[1]))
    failures = [
        f"{name}: {reason}" for name, trace in zip(names, traces, strict=True) for reason in _holes(machine, x, trace)
    ]
    if failures:
        return Comparison(*names, (), (), float("nan"), tuple(failures), None, rule)
    if rule != "judged":
        if told is not None:
            told(Seen(names, traces, (), rule))
        return _unjudged(machine, names, traces, rule)
    same = all(np.array_equal(traces[0].spikes[n], traces[1].spikes[n]) for n in machine.spiking)
    judges = judges or (Judge(machine, x, state, precision),) * 2
    certificates = [judge.certify(trace) for judge, trace in zip(judges, traces, strict=True)]
    if told is not None:
        told(Seen(names, traces, tuple(certificates), rule))
    failures = [f"{name}: {reason}" for name, c in zip(names, certificates, strict=True) for reason in c.wrong]
    disputed = tuple(dict.fromkeys(d for c in certificates for d in c.disputed))
    thresholds = {node.name: float(getattr(node.layer, "threshold", 0.0)) for node in machine.nodes}
    layers = tuple(_judged(_layer(name, *traces), thresholds[name], certificates) for name in machine.spiking)
    divergence = None if same else _first_divergence(machine, traces, certificates[0])
    outputs = max(
        open_outputs(c.exact.outputs[name], bound) for c in certificates for name, bound in c.bounds.outputs.items()
    )
    return Comparison(
        *names,
        layers,
        disputed,
        _output_error(*traces),
        tuple(failures),
        divergence,
        answers=_answers(*traces),
        open_outputs=outputs,
        ties=_worse_of(*(c.bounds.ties for c in certificates)),
    )


def _judged(layer: LayerComparison, threshold: float, certificates: Sequence[Certificate]) -> LayerComparison:
    """With what the bounds of the two runs leave open; the worse of the two counts."""
    bounds = [(c.exact.margin[layer.name], c.bounds.margin[layer.name]) for c in certificates]
    return replace(
        layer,
        open=max(open_decisions(margin, bound, threshold) for margin, bound in bounds),
        unbounded=max(unbounded(bound) for _, bound in bounds),
    )


def _worse_of(*runs: Sequence[Ties]) -> tuple[Ties, ...]:
    """One per layer: of the run whose order is less certain."""
    found: dict[str, Ties] = {}
    for ties in (ties for run in runs for ties in run):
        found[ties.layer] = max(found.get(ties.layer, ties), ties, key=lambda one: one.open)
    return tuple(found.values())


def _unjudged(machine: StateMachine, names: tuple[str, str], traces: tuple[Trace, Trace], rule: Rule) -> Comparison:
    """What differs, counted: rounded numbers have no bound of their own."""
    layers = tuple(_layer(name, *traces) for name in machine.spiking)
    divergence = _first_flip(machine, traces)
    found = None if divergence is None else Decision(*divergence, float("nan"), float("nan"))
    return Comparison(*names, layers, (), _output_error(*traces), (), found, rule, answers=_answers(*traces))


def _holes(machine: StateMachine, x: Any, trace: Trace) -> list[str]:
    """What is missing from a trace, has the wrong shape, or is NaN."""
    reasons = []
    lead = tuple(x.shape[:2])
    for name in machine.spiking:
        expected = (*lead, *machine.shapes[name])
        if name not in trace.spikes:
            reasons.append(f"layer {name!r} is missing")
        elif trace.spikes[name].shape != expected:
            reasons.append(f"spikes of {name!r} have shape {trace.spikes[name].shape}, expected {expected}")
        elif not np.isin(trace.spikes[name], (0.0, 1.0)).all():
            reasons.append(f"spikes of {name!r} are not all 0 or 1")
    for values in (trace.spikes, trace.potential, trace.reset, trace.margin):
        reasons += [f"there is no layer {name!r} in the network" for name in values.keys() - set(machine.spiking)]
    for what, values in (("V", trace.potential), ("R", trace.reset), ("margins", trace.margin)):
        for name in values.keys() & set(machine.spiking):
            expected = (*lead, *machine.shapes[name])
            if values[name].shape != expected:
                reasons.append(f"{what} of {name!r} have shape {values[name].shape}, expected {expected}")
    for name, tensor in machine.state_spec.items():
        expected = (lead[1], *tensor.shape) if tensor.batched else ()
        if name in trace.state and np.shape(trace.state[name]) != expected:
            reasons.append(f"state {name!r} has shape {np.shape(trace.state[name])}, expected {expected}")
    if trace.outputs.keys() != machine.outputs.keys():
        return [*reasons, f"it gives the outputs {list(trace.outputs)}, expected {list(machine.outputs)}"]
    for name, features in machine.outputs.items():
        y, called = trace.outputs[name], "output" if name == OUTPUT else f"output {name!r}"
        if y.shape not in ((lead[0], lead[1], *features), (1, lead[1], *features)):
            reasons.append(f"{called} has shape {y.shape}, expected {(*lead, *features)}")
        elif not np.isfinite(y).all():
            reasons.append(f"{called} holds NaN or infinity")
    return reasons


def _layer(name: str, first: Trace, second: Trace) -> LayerComparison:
    a, b = first.spikes[name], second.spikes[name]
    error = None
    if name in first.potential and name in second.potential:
        error = float(np.abs(first.potential[name] - second.potential[name]).max())
    return LayerComparison(name, a.size, int((a != b).sum()), float(a.mean()), error)


def _output_error(first: Trace, second: Trace) -> float:
    pairs = [(y, second.outputs[name]) for name, y in first.outputs.items()]
    shared = [(a[-len(b) :], b[-len(a) :]) for a, b in pairs]
    return max(float(np.abs(a - b).max()) for a, b in shared)


def _answers(first: Trace, second: Trace) -> Answers:
    """The largest entry of an output of the last step, sample by sample: what a classifier says."""
    changed = []
    for name, y in first.outputs.items():
        rows = [values[-1].reshape(y.shape[1], -1) for values in (y, second.outputs[name])]
        if rows[0].shape[1] > 1:
            changed.append(rows[0].argmax(1) != rows[1].argmax(1))
    return Answers(len(changed[0]), int(np.any(changed, 0).sum())) if changed else Answers(0, 0)


def _first_divergence(machine: StateMachine, traces: tuple[Trace, Trace], judged: Certificate) -> Decision | None:
    """The earliest flip, with its margin."""
    flip = _first_flip(machine, traces)
    if flip is None:
        return None
    name, t, sample, neuron = flip
    at = (t, sample, *neuron)
    margin, bound = judged.exact.margin[name][at], judged.bounds.margin[name][at]
    return Decision(*flip, float(margin), float(bound))


def _first_flip(machine: StateMachine, traces: tuple[Trace, Trace]) -> tuple[str, int, int, tuple[int, ...]] | None:
    """The earliest in time; within a step, that of the earliest layer."""
    flips = []
    for depth, name in enumerate(machine.spiking):
        where = np.argwhere(traces[0].spikes[name] != traces[1].spikes[name])
        if len(where):
            flips.append((int(where[0][0]), depth, name, [int(i) for i in where[0]]))
    if not flips:
        return None
    _, _, name, (t, sample, *neuron) = min(flips)
    return name, t, sample, tuple(neuron)


def _numpy_trace(trace: Trace) -> Trace:
    def convert(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _numpy(value) for name, value in values.items()}

    kinds = (trace.spikes, trace.potential, trace.reset, trace.margin, trace.state, trace.estimate)
    return Trace(trace.with_outputs(_numpy).output, *map(convert, kinds))


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
