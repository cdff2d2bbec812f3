"""A fault in one of Lava's processes is said and ends the run; Lava itself would wait for ever, in silence."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def crash_ends_the_run(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a process model; if it raises, the traceback is printed and the process that started all is ended.

    Who waits for that one sees it end, and clears away what is left.
    """

    @functools.wraps(method)
    def wrapped(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            os.kill(os.getppid(), signal.SIGTERM)
            raise

    return wrapped
