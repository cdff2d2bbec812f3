"""The end of a child and of all that it started; none of it, nor of its shared memory, is left behind.

By process group, not by psutil's `children(recursive=True)`: that follows parents, and a process whose parent has ended
(a crash of Lava leaves some) has another one by then. A signal to a group also reaches who is being forked meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from psu_deploy.errors import require

GRACE = 3.0
"""Seconds between asking processes to end and ending them."""

_SHARED = "/dev/shm/psm_"
"""What Python calls its shared memory, on Linux."""

_POLL = 0.02


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child started in a session of its own, and everything in its process group.

    First politely: Python's resource tracker, one of them, ignores that, and removes the shared memory of the others.

    Args:
        child: running or ended.
    """
    running = members(child.pid)
    if child.poll() is None or running:
        shared = {path for process in running for path in _shared_memory(process)}
        _signal(child.pid, signal.SIGTERM)
        if not _has_ended(child, GRACE):
            _signal(child.pid, signal.SIGKILL)
            _has_ended(child, GRACE)
        for path in shared:
            path.unlink(missing_ok=True)


def members(group: int) -> list[Any]:
    """Processes of a group that still run; one that only waits to be buried by its parent does not."""
    psutil = require("psutil", extra="lava")
    found = []
    for number in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):  # it has ended meanwhile
            if os.getpgid(number) == group:
                process = psutil.Process(number)
                if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                    found.append(process)
    return found


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the whole group is gone, waiting for it. `psutil.wait_procs` would wait for the unburied too."""
    deadline = time.monotonic() + seconds
    while child.poll() is None or members(child.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _shared_memory(process: Any) -> set[Path]:
    """What a process has open of it."""
    psutil = require("psutil", extra="lava")
    if not psutil.LINUX:
        return set()
    with suppress(psutil.Error, OSError):  # it has ended meanwhile
        return {Path(area.path) for area in process.memory_maps() if area.path.startswith(_SHARED)}
    return set()
