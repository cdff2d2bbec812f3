"""Judges changed files in a throw-away copy of the tree: one JSON line in, one out, for each.

    {"file": path, "source": changed text, "tests": [paths], "timeout": seconds}
    {"outcome": "killed" | "survived" | "timeout", "test": the first that failed, "seconds": float}

The slow imports are made once; every mutant runs in a fork of this process, which has not imported the package itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SLOW_IMPORTS = ("torch", "scipy.optimize", "h5py", "onnx", "onnx_ir", "onnxruntime", "typer", "rich")
"""What tests import that is not changed here."""

VERDICT = ".verdict"
"""File in the tree: the name of the first test that failed."""

_NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


def main() -> None:
    """Serve until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever the tests print is no answer
    for name in SLOW_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        os.write(answers, json.dumps(judge(**json.loads(line))).encode() + b"\n")


def judge(file: str, source: str, tests: list[str], timeout: float) -> dict[str, Any]:
    """Run tests on the tree with one file changed, and put the file back."""
    path, began = Path(file), time.monotonic()
    original = path.read_text()
    Path(VERDICT).unlink(missing_ok=True)
    _write(path, source)
    try:
        code = _run_in_fork(tests, timeout)
    finally:
        _write(path, original)
    test = Path(VERDICT).read_text() if Path(VERDICT).exists() else ""
    outcome = {None: "timeout", 0: "survived"}.get(code, "killed")
    if code == _NO_TESTS:
        raise RuntimeError(f"none of these tests was collected: {tests}")
    return {"outcome": outcome, "test": test, "seconds": round(time.monotonic() - began, 1)}


def _write(path: Path, source: str) -> None:
    """A file may change twice in a second and keep its size: then Python would take the old bytecode."""
    path.write_text(source)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _run_in_fork(tests: list[str], timeout: float) -> int | None:
    """Exit code of pytest; None = it took too long."""
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(_pytest(tests))
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class _FirstFailure:
    """Notes which test failed first."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not Path(VERDICT).exists():
            Path(VERDICT).write_text(report.nodeid)


def _pytest(tests: list[str]) -> int:
    with contextlib.suppress(SystemExit):
        options = ["-x", "-q", "-m", "not nightly", "-p", "no:cacheprovider", "--tb=no", "--no-header"]
        return int(pytest.main([*options, *tests], plugins=[_FirstFailure()]))
    return 1


if __name__ == "__main__":
    main()
