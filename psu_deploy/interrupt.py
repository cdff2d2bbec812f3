"""Ctrl-C while the command still imports torch: the same word and exit code as later, and no traceback.

Python runs this package's imports before it calls the command, so nobody could catch it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
"""Exit code."""


def while_importing() -> None:
    """End at once on ctrl-C, if this process is the command and nobody has said otherwise."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def as_usual() -> None:
    """Back to `KeyboardInterrupt`."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """`psu-deploy ...` or `python -m psu_deploy ...`, whose package is imported before its name is known."""
    name = (getattr(sys, "argv", None) or [""])[0]
    return Path(name).stem == "psu-deploy" or (name == "-m" and "psu_deploy" in sys.orig_argv)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


while_importing()
