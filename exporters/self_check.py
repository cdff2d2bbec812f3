"""The first run of what was just written, before it is moved into place."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import InternalError, StateError
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Runner
from psu_deploy.verify import aligned_run, certify

_Run = tuple[NDArray[Any], dict[str, NDArray[Any]]]
"""Input and state."""

_STEPS = 3
_MUCH_STATE = 2**22
"""Numbers of state per sample from which one sample is enough for the check: exact arithmetic holds it many times."""


def check_export(machine: StateMachine, runner: Runner) -> None:
    """Raise `InternalError` unless exact arithmetic explains every spike and output of a few steps.

    They start from a random state that is not zero. Where a function of the network has no value there, from the
    initial one.
    """
    random = np.random.default_rng(0)
    steps = _STEPS if machine.max_steps is None else min(_STEPS, machine.max_steps)
    per_sample = sum(prod(spec.shape) for spec in machine.state_spec.values())
    batch = 2 if per_sample < _MUCH_STATE else 1
    x = (random.random((steps, batch, *machine.input_shape)) < 0.3).astype(np.float32)
    x = np.repeat(x[:1], steps, axis=0) if machine.static_input else x
    state = {
        name: random.standard_normal(value.shape).astype(value.dtype) if machine.state_spec[name].batched else value
        for name, value in machine.initial_state(batch).items()
    }
    first = machine.initial_state(batch)
    x, state = _with_values(machine, [(x, state), (x, first), (1 + x, first)])
    certificate = certify(machine, x, aligned_run(machine, runner.trace, x, state), state)
    if not certificate.ok:
        raise InternalError(
            f"the exported graph does not compute what the machine computes: {len(certificate.disputed)} disputed "
            f"spike(s){'; '.join(['', *certificate.wrong])}. Nothing was written; please report this model"
        )


def _with_values(machine: StateMachine, runs: list[_Run]) -> _Run:
    """The first run on which the machine has a value everywhere: a logarithm may have none."""
    if not any(node.layer.bound_sees_inputs for node in machine.nodes):
        return runs[0]
    for x, state in runs[:-1]:
        with suppress(StateError):
            aligned_run(machine, machine.trace, x, state)
            return x, state
    return runs[-1]
