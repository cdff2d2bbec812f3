"""Runs Python code in processes that can be killed, without the seconds that imports take: one server forks them all.

As a script it is the server: a line of JSON in is code to run in a child; a line out is its process id, the next one
its exit status.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PRELOADED = (
    *("psu_deploy.cli", "psu_deploy.training", "psu_deploy.training.checkpoint_io", "psu_deploy.training.datamodule"),
    *("psu_deploy.training.module", "lightning.pytorch.callbacks", "sklearn.datasets", "psu_deploy.importers.official"),
    *("psu_deploy.exporters.onnx", "psu_deploy.exporters.nir", "psu_deploy.exporters.lava", "psu_deploy.exporters.c"),
    *("norse.torch", "rich.live"),
)


class Server:
    """Starts processes and tells how they ended.

    Args:
        temporary: folder in the place of the system's temporary one.
        log: file for what they say.
    """

    def __init__(self, temporary: Path, log: Path) -> None:
        self.log = log
        environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment,
                text=True,
            )
        assert self._answer() == "ready"

    def run(self, code: str) -> float:
        """Run to the end; seconds."""
        began = time.perf_counter()
        self._start(code)
        assert int(self._answer()) == 0, f"{code}\n{self.log.read_text()[-2000:]}"
        return time.perf_counter() - began

    def kill(self, code: str, after: float, once: Callable[[], bool] = lambda: True) -> bool:
        """Run, and kill some seconds after something is so; whether it was over before."""
        process = self._start(code)
        while not once() and not select.select([self.process.stdout], [], [], 0.0005)[0]:
            pass
        time.sleep(after)
        os.kill(process, signal.SIGKILL)  # the number is still its own: it is not buried before the next one starts
        return int(self._answer()) == 0

    def close(self) -> None:
        """No more processes."""
        self.process.communicate()

    def _start(self, code: str) -> int:
        assert self.process.stdin is not None
        print(json.dumps(code), file=self.process.stdin, flush=True)
        return int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        return line.strip()


def serve() -> None:
    """Fork a child for every line."""
    for module in PRELOADED:
        __import__(module)
    print("ready", flush=True)  # noqa: T201  to who asked
    child = 0
    for line in sys.stdin:
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if not child:
            _execute(json.loads(line))
        print(child, flush=True)  # noqa: T201
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        print(status, flush=True)  # noqa: T201


def _execute(code: str) -> None:
    os.dup2(2, 1)
    status = 1
    try:
        exec(code, {"__name__": "killed"})
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        if status:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
