"""A Python 3.10 on this machine, wherever it is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from psu_deploy.errors import MissingExtraError

_PATIENCE = 60.0
_IS_310 = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 10))"


def find_python310(command: str) -> Path:
    """An interpreter that really runs: a shim of pyenv is there even where its Python is not.

    Args:
        command: to run again once there is one.

    Raises:
        MissingExtraError: if there is none.
    """
    for candidate in _candidates():
        try:
            test = [str(candidate), "-E", "-s", "-c", _IS_310]
            done = subprocess.run(test, capture_output=True, timeout=_PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if not done.returncode:
            return candidate
    raise MissingExtraError(
        "no Python 3.10 was found, neither as python3.10 on the PATH nor by pyenv or uv; install one "
        f"(`uv python install 3.10`, or `pyenv install 3.10`) and run `{command}` again"
    )


def _candidates() -> Iterator[Path]:
    if found := shutil.which("python3.10"):
        yield Path(found)
    if prefix := _answer("pyenv", "prefix", "3.10"):
        yield Path(prefix) / "bin" / "python3.10"
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted((root / "versions").glob("3.10*/bin/python3.10"), reverse=True)
    if found := _answer("uv", "python", "find", "--no-python-downloads", "3.10"):
        yield Path(found)


def _answer(*command: str) -> str:
    """What a tool says, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()
