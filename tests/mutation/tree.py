"""Throw-away copies of the working tree, in which files may be changed, and the process that runs tests in one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

MAPPED = ("exporters", "models")
"""Folders that are packages of psu_deploy once installed; in a copy, links say so."""


class Copy:
    """A copy of everything that git knows or would know, with a worker in it.

    Args:
        tree: the working tree.
    """

    def __init__(self, tree: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mutate-"))
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=tree, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (tree / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / name, self.path / name)
        for name in MAPPED:
            (self.path / "psu_deploy" / name).symlink_to(f"../{name}")
        self._worker = self._start()

    def _start(self) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.path),  # of the processes that tests start
            "PYTHONDONTWRITEBYTECODE": "",
            "CI": "1",  # hypothesis draws the same examples every time
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }
        environment.pop("PSU_DEPLOY_REQUIRE", None)
        command = [sys.executable, "-m", "tests.mutation.worker"]
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def judge(self, file: str, source: str, tests: list[str], timeout: float) -> dict[str, Any]:
        """See `tests.mutation.worker`."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(
            json.dumps({"file": file, "source": source, "tests": tests, "timeout": timeout}) + "\n"
        )
        answer = self._worker.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker in {self.path} ended; run python -m tests.mutation.worker there to see why")
        found: dict[str, Any] = json.loads(answer)
        return found

    def __enter__(self) -> Copy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()
        shutil.rmtree(self.path)
