"""The processes of a run: they join, hear what process 0 decides, and part."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from psu_deploy.errors import EngineError, PsuDeployError
from psu_deploy.training.crew import KEPT, Crew, follow
from psu_deploy.training.machines import Machines
from psu_deploy.training.processes import LAUNCHER, Process, this_process

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""Process 0 may take its time for accuracies; who dies is noticed by the closed connection."""

_NOTICED = 5.0
"""Seconds from a closed connection to the end of the process behind it."""


class Team:
    """The processes of a run, as a context; with one process it does nothing.

    Args:
        machines: how many there are, and how they work together.

    Raises:
        InputError: if this process was started as one of more or fewer.
    """

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.process: Process = this_process(machines, os.environ)
        self._crew: Crew | None = None
        self._words: ProcessGroup | None = None
        self._over = threading.Event()

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone touches the run folder."""
        return self.process.rank == 0

    def __enter__(self) -> Team:
        if self.process.launcher == "psu-deploy":
            follow(int(os.environ[LAUNCHER]), self._over)
        return self

    def decided(self, decide: Callable[[], T]) -> T:
        """What process 0 decides, in every process. Those that it starts itself are started after its first decision.

        Raises:
            EngineError: in the others, if it failed in process 0, where it raises what it does.
        """
        if not self.machines.parallel:
            return decide()
        if not self.first or self.process.launcher:
            self._join()
        said: list[Any] = [None]
        if self.first:
            try:
                said = [(decide(),)]
            except BaseException:
                self._say([None])
                raise
            self._join()
        self._say(said)
        if said[0] is None:
            raise EngineError("process 0 of the run could not go on; it says why")
        value: T = said[0][0]
        return value

    def _say(self, what: list[Any]) -> None:
        """From process 0 to all; nobody is there before they joined."""
        if self._words is not None:
            torch.distributed.broadcast_object_list(what, 0, group=self._words, device=torch.device("cpu"))

    def _join(self) -> None:
        if self._words is not None:
            return
        cuda = self.machines.device == "cuda"
        device = torch.device("cuda", self.process.local_rank) if cuda else None
        if device is not None:
            torch.cuda.set_device(device)
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo",
            rank=self.process.rank,
            world_size=self.machines.processes,
            device_id=device,
            **self._meeting(),
        )
        self._words = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def _meeting(self) -> dict[str, Any]:
        """Where they meet; the others of this machine are started as soon as somebody listens there."""
        process = self.process
        if process.launcher == "torchrun":  # which listens itself
            return {"init_method": "env://"}
        if process.launcher or process.rank:
            self._start(process.port)
            return {"store": self._store(process.port)}
        store = self._store(process.port)
        self._start(store.port)
        return {"store": store}

    def _store(self, port: int) -> Any:
        distributed: Any = torch.distributed  # which does not say that it has it
        return distributed.TCPStore(
            self.process.address, port, self.machines.processes, is_master=self.first, wait_for_workers=False
        )

    def _start(self, port: int) -> None:
        if not self.process.launcher and self.machines.devices > 1:
            self._crew = Crew(self.process, self.machines, port)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        if error is None:
            self._part()
            return
        lost = self._lost(error)
        if self._crew is not None:
            self._crew.end()
        if self.machines.device == "cpu":  # NCCL would wait for the others
            with suppress(Exception):
                self._part()
        if lost is not None:
            raise EngineError(f"{lost}; {KEPT} resume=True", shell=f"{lost}; {KEPT} --resume") from error

    def _lost(self, error: BaseException) -> str | None:
        """Whether an error is the end of another process; ctrl-C and what we say ourselves is not."""
        if not isinstance(error, Exception) or isinstance(error, PsuDeployError) or not self.machines.parallel:
            return None
        lost = self._crew.lost(_NOTICED) if self._crew is not None else None
        if lost is not None or not _of_the_network(error):
            return lost
        return f"another process of the run ended or cannot be reached any more ({str(error).splitlines()[0][:200]})"

    def _part(self) -> None:
        if self._crew is not None:
            self._crew.release()
        if self._words is not None:
            torch.distributed.destroy_process_group()
            self._words = None


def _of_the_network(error: Exception) -> bool:
    distributed: tuple[type[Exception], ...] = (torch.distributed.DistError,)
    return isinstance(error, distributed) or "gloo" in str(error)
