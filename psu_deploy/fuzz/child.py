"""A process that tries cases, watched: it has a time limit, and is started anew after it crashed or hung."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from psu_deploy.errors import EngineError
from psu_deploy.files.cache import VARIABLE as CACHE
from psu_deploy.fuzz.outcome import Outcome

_TO_START = 300.0
"""Seconds until it has imported everything, on a busy machine."""

_MOST = 2**24
"""Bytes of an answer."""

_LAST_WORDS = 2000


class Child:
    """Tries cases in a process of its own; a context manager.

    Args:
        folder: for what the process prints, and for what it keeps.
        seconds: that a case may take.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._printed: IO[bytes] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def ask(self, request: dict[str, Any]) -> Outcome:
        """What comes of a case. One that ends the process, or takes too long, has failed."""
        process = self._running()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        answer = self._answer(process, self._seconds)
        if isinstance(answer, dict):
            return Outcome.from_dict(answer)
        self.stop()
        return answer

    def stop(self) -> None:
        """End the process, and whatever it started."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        self._printed = (self._folder / "printed").open("w+b")
        environment = {**os.environ, CACHE: str(self._folder), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "psu_deploy.fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=environment,
            start_new_session=True,  # ctrl-C is for the one who watches
        )
        ready = self._answer(self._process, _TO_START)
        if isinstance(ready, Outcome):
            self.stop()
            raise EngineError(f"the process that tries cases does not start: {ready.reason}")
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any] | Outcome:
        """A line of it, or what became of it instead."""
        assert process.stdout is not None
        until, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return Outcome("failed", "hangs", f"no answer after {seconds:g} s")
            part = os.read(process.stdout.fileno(), _MOST)
            if not part:
                return self._ended(process)
            line += part
        found: dict[str, Any] = json.loads(line)
        return found

    def _ended(self, process: subprocess.Popen[bytes]) -> Outcome:
        code = process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name
        assert self._printed is not None
        self._printed.seek(0, os.SEEK_END)
        self._printed.seek(max(0, self._printed.tell() - _LAST_WORDS))
        words = self._printed.read().decode(errors="replace").strip()
        return Outcome("failed", f"crashed: {how}", f"the process ended with {how}; its last words: {words or 'none'}")
