"""Whether a runner may go on: what is the same in every runner, whatever engine it drives.

A runner's state is before a step or after it. What ends in between (an overflow, an engine that fails, Ctrl-C) leaves a
runner that says so at every call, until a reset comes to its end. Everything that can be refused is refused before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NoReturn

from psu_deploy.errors import InputError, StateError
from psu_deploy.machine.inputs import check_samples
from psu_deploy.machine.overflow import spell

_NEVER = "call reset(batch_size=...) before the first step"
_HALF_RESET = "the last reset did not come to its end; call reset(batch_size=...) before the next step"
_BROKEN_OFF = "the last step or run was broken off in the middle; call reset(batch_size=...) to start over"


class Unique:
    """What can neither be copied nor pickled: it holds an engine, and two runners on one state would spoil it."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise StateError(
            f"a {type(self).__name__} holds an engine and cannot be copied or pickled; open the file once more with "
            "psu_deploy.load(path)"
        )


class Lifecycle:
    """Batch size and steps since the last reset, or why there is nothing to go on from; and who is using it.

    Attributes:
        batch: B; None while there must be a reset first.
        shape: of one step's input, (B, *features); None while there must be a reset first.
        steps: done, those of a state that was given included.
        began: what `steps` was after the last reset.
    """

    def __init__(self) -> None:
        self.batch: int | None = None
        self.shape: tuple[int, ...] | None = None
        self.steps = self.began = 0
        self._reason = _NEVER
        self._lock = Lock()

    def alone(self) -> Lock:
        """For a `with`: one call at a time.

        Asking first and locking then is two steps: a thread that comes in between waits for its turn. It is never let
        in beside another, and unlike `acquire(False)` a `with` cannot be interrupted between locking and unlocking.

        Raises:
            StateError: if another call is under way.
        """
        if self._lock.locked():
            raise StateError("this runner is in use by another thread; give each thread its own")
        return self._lock

    def check(self, samples: int | None = None) -> None:
        """Raise `StateError` if there must be a reset first, or the last one was for another number of samples."""
        if self.batch is None:
            raise StateError(self._reason)
        if samples is not None:
            check_samples(samples, self.batch)

    @contextmanager
    def restarting(self, batch: int, features: tuple[int, ...]) -> Iterator[None]:
        """Around what a reset changes: usable, for `batch` samples, once all of it is done; not before."""
        self._stop(_HALF_RESET)
        try:
            yield
        except MemoryError as error:
            raise InputError(
                f"batch_size={batch} needs more memory than there is; take fewer samples at a time"
            ) from error
        self.batch, self.shape = batch, (batch, *features)
        self.began = self.steps

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Around what a step or a run changes: what escapes from it leaves nothing to go on from."""
        try:
            yield
        except BaseException:
            self.break_off()
            raise

    def break_off(self) -> None:
        """A step ended in the middle."""
        if self.batch is not None:
            self._stop(_BROKEN_OFF)

    def overflowed(self, name: str, first: int | None = None) -> NoReturn:
        """A state, or the output, is no longer finite: there is nothing to go on from.

        Args:
            name: of the state tensor; see `psu_deploy.machine.overflow.spell`.
            first: earliest step, from 1, in which it can have happened; None = the last one.

        Raises:
            StateError: always.
        """
        first = self.steps if first is None else first
        when = f"in step {first}" if first >= self.steps else f"in one of the steps {first} to {self.steps}"
        said = f"{spell(name)} overflowed {when}, from finite input, and answers from step {first} on are void"
        self._stop(f"{said}; scale the input down and call reset(batch_size=...) to start over")
        raise StateError(self._reason)

    def _stop(self, reason: str) -> None:
        self.batch = self.shape = None
        self._reason = reason
