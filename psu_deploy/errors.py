"""Every exception this package raises on purpose.

    PsuDeployError
    |-- InputError             a tensor or an argument has the wrong shape, dtype, range or holds NaN
    |-- HorizonError           a step past the last one a learned T x T matrix is defined for
    |-- StateError             a step without reset, or state that does not belong to this machine
    |-- UnsupportedModelError  the model cannot become a state machine, or the target cannot express it
    |-- ArtifactError          a file is missing, truncated, malformed or not ours
    |-- MissingExtraError      an optional dependency is not installed
    |-- EngineError            something outside this process (Lava, a process of the same run) crashed, hung or gave
    |                          no result
    `-- InternalError          our fault: a promise this package makes to itself did not hold

All but `InternalError` are something the caller can mend, and say how.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from psu_deploy.text import columns


class PsuDeployError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        message: one sentence, in the words of Python where it says what to do.
        shell: the same in the words of the command line, where they are others.

    >>> import psu_deploy as psu
    >>> try:
    ...     psu.RPSU(T=0)
    ... except psu.PsuDeployError as error:
    ...     print(type(error).__name__)
    InputError
    """

    def __init__(self, *message: object, shell: str | None = None) -> None:
        super().__init__(*message)
        self.shell = shell


class InputError(PsuDeployError, ValueError):
    """A tensor or an argument has the wrong shape, dtype, range, or holds NaN.

    >>> import psu_deploy as psu
    >>> psu.PSU(tau=0.5)
    Traceback (most recent call last):
        ...
    psu_deploy.errors.InputError: tau is a number of steps and must be at least 1, got 0.5
    """


class HorizonError(PsuDeployError, IndexError):
    """A step past the horizon: learned T x T matrices have no row for it.

    >>> import torch
    >>> import psu_deploy as psu
    >>> psu.RPSU(T=4)(torch.zeros(5, 1, 1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    psu_deploy.errors.HorizonError: CausalMatrix is defined for 4 steps but was given 5; ...
    """


class StateError(PsuDeployError):
    """A step without reset, a changed batch size, or state of another machine.

    >>> import numpy as np
    >>> import psu_deploy as psu
    >>> machine = psu.to_state_machine(psu.PSU(), (2,))
    >>> machine.step(np.zeros((1, 2), np.float32), {})
    Traceback (most recent call last):
        ...
    psu_deploy.errors.StateError: state does not belong to this machine: missing ['psu.R', 'psu.V'], unknown []
    """


class ArtifactError(PsuDeployError):
    """A file is missing, truncated, malformed, cannot be written, or is not ours.

    >>> import psu_deploy as psu
    >>> psu.StateMachine.load("nothing.psm")
    Traceback (most recent call last):
        ...
    psu_deploy.errors.ArtifactError: nothing.psm does not exist or is not a file
    """


class MissingExtraError(PsuDeployError, ImportError):
    """An optional dependency is not installed.

    >>> require("nothing_of_that_name", extra="onnx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    psu_deploy.errors.MissingExtraError: 'nothing_of_that_name' is not installed; it comes with the 'onnx' extra: ...
    """


class EngineError(PsuDeployError):
    """An engine, such as onnxruntime or Lava in a process of its own, or a process of the same run failed or hung.

    >>> raise EngineError("Lava ended before it answered")
    Traceback (most recent call last):
        ...
    psu_deploy.errors.EngineError: Lava ended before it answered
    """


class InternalError(PsuDeployError):
    """A promise this package makes to itself did not hold: please report it.

    >>> issubclass(InternalError, PsuDeployError)
    True
    """


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way of a capture or an export.

    Args:
        path: where it is, as the module's path inside the model (`blocks.0.norm`).
        kind: what it is, usually a class or function name.
        reason: why it is not supported.
        remedy: what the caller can do about it.
    """

    path: str
    kind: str
    reason: str
    remedy: str


class Refusal(Exception):  # noqa: N818  the field's word for it, and no error until a place is added
    """One part of a network that cannot be expressed: raised, or standing in a table instead of a rule.

    Inner code gives the reason; who walks the network adds the place, and makes a `Problem` of it.

    Args:
        reason: why not.
        remedy: what the caller can do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return self.reason


class UnsupportedModelError(PsuDeployError):
    """The model holds something we cannot express; lists everything that stands in the way.

    Args:
        problems: all of them, not just the first.
        action: what was being attempted, as a clause ("turn the model into a state machine").

    >>> import psu_deploy as psu
    >>> try:
    ...     psu.to_state_machine(psu.PSN(T=4), (2,))
    ... except psu.UnsupportedModelError as error:
    ...     print(error.problems[0].reason)
    not causal: step t needs inputs of later steps, so there is no serial form
    """

    def __init__(self, problems: Sequence[Problem], action: str) -> None:
        self.problems = tuple(problems)
        self._action = action
        super().__init__(f"cannot {action}: {len(self.problems)} problem(s)\n{_table(self.problems)}")

    def __reduce__(self) -> tuple[type[UnsupportedModelError], tuple[tuple[Problem, ...], str]]:
        return type(self), (self.problems, self._action)


def _table(problems: Sequence[Problem]) -> str:
    rows = [("path", "type", "reason", "what to do")]
    rows += [(p.path, p.kind, p.reason, p.remedy) for p in problems]
    return "\n".join(f"  {line}" for line in columns(rows, left=4))


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say in one sentence how to install it.

    Args:
        module: name to import, such as `"onnxruntime"`.
        extra: the extra of this package that brings it, such as `"onnx"`.

    Raises:
        MissingExtraError: if the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingExtraError(
            f'{missing!r} is not installed; it comes with the {extra!r} extra: pip install "psu-deploy[{extra}]"'
        ) from error
