"""The oracle beside `verify`: the machine in float64, forced through the very spikes that the target emitted.

Nothing is aligned here: a late network is fed silence at the end, and every row is judged where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from psu_deploy.fuzz.case import Case, with_silence
from psu_deploy.fuzz.exact import is_exact
from psu_deploy.machine import StateMachine, Trace
from psu_deploy.machine.ops.roundoff import AS_THE_MACHINE
from psu_deploy.runtime import Runner
from psu_deploy.verify.rounding import rounding_bounds

_SHOWN = 20

_SPIKES = "spikes of"


class Judged(NamedTuple):
    """How a run stands against float64.

    Attributes:
        kind: of the first thing that is wrong; "" = nothing is.
        differences: in words.
        spikes: decisions compared.
        knife_edges: decisions that differ, and that rounding can turn.
    """

    kind: str
    differences: tuple[str, ...]
    spikes: int
    knife_edges: int


def fed(case: Case) -> Any:
    """The input, and silence until the last answer is out."""
    return with_silence(case.machine, case.x)


def judged(case: Case, runner: Runner) -> Judged:
    """Hold a run against the machine in float64: spikes, and outputs.

    Args:
        case: what is run.
        runner: of the target's file.
    """
    x, machine = fed(case), runner.stand_in(case.machine)
    trace = runner.trace(x) if case.state is None else runner.trace(x, case.state)
    spikes = {name: _double(trace.spikes[name]) for name in machine.spiking}
    state = _started(case, machine)
    exact = machine.trace(_double(x), state, spikes=spikes)
    arithmetic = runner.arithmetic
    bounds = rounding_bounds(machine, _double(x), spikes, state, "float32", arithmetic=arithmetic)
    nothing_rounds = case.state is None and arithmetic == AS_THE_MACHINE and is_exact(machine, case.x)
    margins, outer = bounds.margin, bounds.outputs
    if nothing_rounds:
        margins, outer = ({name: torch.zeros_like(bound) for name, bound in part.items()} for part in (margins, outer))
    flips, edges = [], 0
    for name in machine.spiking:
        found, close = _flips(name, trace, exact, margins[name], nothing_rounds)
        flips += found
        edges += close
    pairs = [(name, y, exact.outputs[name], outer[name]) for name, y in trace.outputs.items()]
    outputs = [said for name, *pair in pairs for said in _off(name, machine.latency, *pair)]
    kind = "wrong spikes" if flips else "wrong numbers" if outputs else ""
    count = sum(rows.numel() for rows in spikes.values())
    return Judged(kind, (*flips, *outputs), count, edges)


def repeated(case: Case, runner: Runner) -> Judged:
    """Hold whole numbers against their definition, bit for bit; the definition itself against its samples, each alone.

    Args:
        case: what is run.
        runner: of a file of whole numbers.
    """
    x, definition = fed(case), runner.repeats
    second = _numbers(runner.trace(x))
    if definition is not None:
        first = _numbers(definition.trace(x))
    else:
        alone = [_numbers(runner.trace(x[:, b : b + 1])) for b in range(x.shape[1])]
        first = {what: np.concatenate([one[what] for one in alone], axis=1) for what in second}
    found = tuple(said for what in first for said in islice(_unequal(what, first[what], second[what]), _SHOWN))
    count = sum(rows.size for what, rows in first.items() if what.startswith(_SPIKES))
    return Judged("wrong integers" if found else "", found, count, 0)


def _numbers(trace: Trace) -> dict[str, Any]:
    """Spikes and outputs, by what they are."""
    spikes = {f"{_SPIKES} {name!r}": np.asarray(rows) for name, rows in trace.spikes.items()}
    return spikes | {f"output {name!r}": np.asarray(y) for name, y in trace.outputs.items()}


def _started(case: Case, machine: StateMachine) -> dict[str, Any]:
    state = machine.initial_state(case.x.shape[1], "float64") if case.state is None else case.state
    return {n: _double(v) if machine.state_spec[n].batched else torch.as_tensor(v) for n, v in state.items()}


def _flips(name: str, trace: Trace, exact: Trace, bound: Any, nothing_rounds: bool) -> tuple[list[str], int]:
    """Decisions that rounding cannot turn, in words; how many it did turn. Where nothing rounds it turns no tie."""
    spikes, margin = _double(trace.spikes[name]), exact.margin[name]
    differ = (exact.spikes[name] != 0) != (spikes != 0)
    wrong = differ if nothing_rounds else differ & ~(margin.abs() <= bound)
    said = [
        f"layer {name!r}, step {t}, sample {b}, neuron {tuple(neuron)}: the target gives {spikes[t, b, *neuron]:g}, "
        f"exact is {exact.spikes[name][t, b, *neuron]:g} (margin {margin[t, b, *neuron]:.9g}, "
        f"bound {bound[t, b, *neuron]:.3g})"
        for t, b, *neuron in torch.nonzero(wrong)[:_SHOWN].tolist()
    ]
    return said, int((differ & ~wrong).sum())


def _off(name: str, latency: int, y: Any, exact: Any, bound: Any) -> Iterator[str]:
    """Numbers of an output that are further from the exact ones than rounding explains, in words."""
    given, exact, bound = _double(y)[latency:], exact[latency:], bound[latency:]
    wrong = ~((given - exact).abs() <= bound)  # what is no number is wrong
    for t, b, *place in torch.nonzero(wrong)[:_SHOWN].tolist():
        yield (
            f"output {name!r}, step {t + latency}, sample {b}, place {tuple(place)}: the target gives "
            f"{given[t, b, *place]:.9g}, exact is {exact[t, b, *place]:.9g} (bound {bound[t, b, *place]:.3g})"
        )


def _unequal(what: str, expected: Any, given: Any) -> Iterator[str]:
    if expected.shape != given.shape:
        yield f"{what}: shape {given.shape}, not {expected.shape}"
        return
    for t, b, *place in np.argwhere(expected != given):
        where = f"{what}, step {t}, sample {b}, place {tuple(map(int, place))}"
        yield f"{where}: {given[t, b, *place]:.9g}, not {expected[t, b, *place]:.9g}"


def _double(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float64))
