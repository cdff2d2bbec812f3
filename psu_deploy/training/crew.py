"""The other processes of a run on this machine: the command again, once for every one, and what becomes of them."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from psu_deploy.errors import InputError
from psu_deploy.training.machines import Machines
from psu_deploy.training.processes import LAUNCHER, Process

_GRACE = 20.0
"""Seconds in which this process notices by itself that another one is gone; NCCL would wait for it for ten minutes."""

KEPT = "the run folder holds everything up to its last whole epoch; go on from there with"

_BAD = 2
"""Exit code of the command line for what went wrong."""


class Crew:
    """Starts the other processes of this machine, and ends this one soon after one of them ended.

    Args:
        first: this process.
        machines: say how many there are.
        port: where process 0 listens.

    Raises:
        InputError: if there is no command that could be run again.
    """

    def __init__(self, first: Process, machines: Machines, port: int) -> None:
        self._over = threading.Event()
        self._ranks = range(first.rank + 1, first.rank + machines.devices)
        common = {"WORLD_SIZE": machines.processes, "MASTER_ADDR": first.address, "MASTER_PORT": port}
        common |= {LAUNCHER: os.getpid(), "LOCAL_WORLD_SIZE": machines.devices}
        self._children: list[subprocess.Popen[bytes]] = []
        for local, rank in enumerate(self._ranks, start=1):
            own = common | {"RANK": rank, "LOCAL_RANK": local}
            environment = os.environ | {name: str(value) for name, value in own.items()}
            # A session of its own: ctrl-C is for the first process, which ends the others.
            self._children.append(subprocess.Popen(command(), env=environment, start_new_session=True))
        threading.Thread(target=self._watch, daemon=True).start()

    def lost(self, seconds: float = 0.0) -> str | None:
        """Which process ended as it should not, and how.

        Args:
            seconds: how long to wait for it: a closed connection is seen before the end of the process.
        """
        until = time.monotonic() + seconds
        while True:
            for rank, child in zip(self._ranks, self._children, strict=True):
                if child.poll():
                    return f"process {rank} of the run {_ending(child.returncode)}"
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def release(self) -> None:
        """The run is over: what the others do now is their own business."""
        self._over.set()

    def end(self) -> None:
        """End the others, at once: they write nothing, and may wait for somebody who is gone."""
        self._over.set()
        for child in self._children:
            child.kill()
            child.wait()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            lost = self.lost()
            if lost is not None and not self._over.wait(_GRACE):
                sys.stderr.write(f"error: {lost}; {KEPT} --resume\n")
                sys.stderr.flush()
                self.end()
                os._exit(_BAD)


def follow(launcher: int, over: threading.Event) -> None:
    """End this process soon after the one that started it, so that none is left behind on a GPU."""

    def watch() -> None:
        while not over.wait(1.0):
            if os.getppid() != launcher:
                os._exit(_BAD)

    threading.Thread(target=watch, daemon=True).start()


def command() -> list[str]:
    """What a person typed, for the same Python.

    Raises:
        InputError: if it was typed into Python itself.
    """
    if hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__") or sys.argv[0] in ("", "-", "-c"):
        raise InputError(
            "several processes are started by running the same command again, and there is none here: put the code "
            "into a file and run that, or use psu-deploy train"
        )
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return [sys.executable, str(Path(sys.argv[0]).absolute()), *sys.argv[1:]]
    return [sys.executable, "-m", spec.name, *sys.argv[1:]]


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with suppress(ValueError):
        name = signal.Signals(-code).name
    return f"was ended by {name}"
