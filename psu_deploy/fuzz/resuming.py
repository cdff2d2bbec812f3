"""A sequence that is stopped and taken up again gives the very numbers that it gives in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from psu_deploy.fuzz.case import Case
from psu_deploy.fuzz.oracle import fed
from psu_deploy.machine.schedule import STEP
from psu_deploy.runtime import Runner

_SHOWN = 10


def broken_off(case: Case, runner: Runner) -> tuple[str, ...]:
    """What differs, in words, if a run is stopped after `case.split` steps: fed in parts, and by a state that is
    handed to another run, where the runner tells its state.
    """
    x, k = fed(case), case.split
    if not k or not runner.resumes:
        return ()
    whole = _outputs(runner.run(x))
    runner.reset(x.shape[1])
    parts = _joined(runner.run(x[:k], reset=False), *(runner.run(x_t[None], reset=False) for x_t in x[k:]))
    found = list(_unequal("fed in parts", whole, parts))
    return (*found, *_handed_over(case, runner, x, k))


def _handed_over(case: Case, runner: Runner, x: Any, k: int) -> Iterator[str]:
    """What differs if a second run starts where the first one ended, of a runner that tells its state.

    A trace is held against a trace: an engine may sum in another order where more of it is seen.
    """
    first = runner.trace(x[:k])
    needed = case.machine.initial_state(x.shape[1])
    if not first.state or needed.keys() - {STEP} - first.state.keys():
        return
    state = {**needed, **first.state}
    if STEP in needed:
        state[STEP] = np.asarray(k)
    parts = _joined(first.output, runner.trace(x[k:], state).output)
    yield from _unequal("from the state in the middle", _outputs(runner.trace(x).output), parts)


def _outputs(y: Any) -> dict[str, Any]:
    return dict(y) if isinstance(y, Mapping) else {"y": y}


def _joined(*parts: Any) -> dict[str, Any]:
    """One part behind the other, by the name of the output."""
    found = [_outputs(part) for part in parts]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _unequal(how: str, whole: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    for name, expected in whole.items():
        for t, b, *place in islice(np.argwhere(expected != parts[name]), _SHOWN):
            there = f"output {name!r}, step {t}, sample {b}, place {tuple(map(int, place))}"
            numbers = f"{parts[name][t, b, *place]:.9g}, in one piece {expected[t, b, *place]:.9g}"
            yield f"{how}, {there}: the target gives {numbers}"
