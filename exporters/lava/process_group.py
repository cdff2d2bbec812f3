"""The end of a child and of all that it started; none of it, nor of its shared memory, is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

GRACE = 3.0
"""Seconds between asking processes to end and ending them."""

_PROC = Path("/proc")
_SHARED = "/dev/shm/"
_POLL = 0.02


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child started in a session of its own, and everything in its process group.

    First politely: Python's resource tracker, one of them, ignores that, and removes the shared memory of the others.

    Args:
        child: running or ended.
    """
    group = child.pid
    if child.poll() is None or _is_alive(group):
        shared = _shared_memory(group)
        _signal(group, signal.SIGTERM)
        if not _has_ended(child, GRACE):
            _signal(group, signal.SIGKILL)
            _has_ended(child, GRACE)
        for path in shared:
            path.unlink(missing_ok=True)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the whole group is gone, waiting for it."""
    deadline = time.monotonic() + seconds
    while child.poll() is None or _is_alive(child.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _is_alive(group: int) -> bool:
    """Whether a process of the group still runs; one that only waits to be buried by its parent does not."""
    if _PROC.is_dir():
        return bool(_members(group))
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _members(group: int) -> list[int]:
    """Process ids, where the system tells them."""
    members = []
    for stat in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # "pid (name) state parent group ...", and a name may hold anything
            state, _, owner = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(owner) == group and state not in "ZX":
                members.append(int(stat.parent.name))
    return members


def _shared_memory(group: int) -> set[Path]:
    """Shared memory that the processes of a group have open."""
    found = set()
    for member in _members(group):
        with suppress(OSError):
            for line in (_PROC / str(member) / "maps").read_text(errors="replace").splitlines():
                name = line.partition(_SHARED)[2]
                if name.startswith("psm_") and " " not in name:  # what Python calls its own; not "... (deleted)"
                    found.add(Path(_SHARED + name))
    return found
