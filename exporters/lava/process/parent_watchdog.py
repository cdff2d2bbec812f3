"""Who asked for the run may be killed before it is over; then nobody waits for it, and it must end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

STDIN = 0


def end_with_parent(folder: Path) -> None:
    """End the whole process group, and remove the job's folder, once the pipe at stdin is closed at its other end.

    It is held open by the parent and by nobody else, so it closes when the parent ends, however it does.
    """
    threading.Thread(target=_wait, args=(folder,), daemon=True).start()


def _wait(folder: Path) -> None:
    while os.read(STDIN, 1):  # not sys.stdin, whose lock this thread would hold when the interpreter shuts down
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGTERM)
