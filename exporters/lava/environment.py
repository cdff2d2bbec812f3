"""The Python 3.10 environment that Lava runs in: found, or made.

lava-nc 0.10 runs on Python 3.10 and nothing newer, lava-dl pins an old torch that nothing here needs; so they live in an
environment of their own, 320 MB, and `job` talks to it.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from psu_deploy.errors import EngineError, MissingExtraError

VARIABLE = "PSU_DEPLOY_LAVA_PYTHON"
HOME_VARIABLE = "PSU_DEPLOY_LAVA_HOME"
COMMAND = "psu-deploy lava setup"

REQUIREMENTS = (("lava-nc==0.10.0", "h5py>=3.10", "numpy<2"), ("--no-deps", "lava-dl==0.6.0"))
"""What pip is told, call by call. Without its dependencies lava-dl is 70 MB, with them 5 GB."""

STAMP = "complete"
"""Written last: an environment without it was never finished."""

_PATIENCE = 60.0
_INSTALL_PATIENCE = 1800.0
_PROBE = """
import json, sys
from importlib.metadata import version
said = {"python": list(sys.version_info[:2])}
if said["python"] == [3, 10]:
    import h5py, lava.magma
    said |= {name: version(name) for name in ("lava-nc", "lava-dl")}
print(json.dumps(said))
"""
_IS_310 = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 10))"


@dataclass(frozen=True)
class LavaEnvironment:
    """An interpreter that has Lava.

    Args:
        python: to run.
        origin: where it was found, for people.
    """

    python: Path
    origin: str


def find() -> LavaEnvironment:
    """The interpreter that PSU_DEPLOY_LAVA_PYTHON names, else the one of `psu-deploy lava setup`.

    Raises:
        MissingExtraError: if there is none, or the one there is does not work.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _checked(LavaEnvironment(Path(named), VARIABLE))
    made = _interpreter(home())
    if (home() / STAMP).is_file():
        return _checked(LavaEnvironment(made, f"{COMMAND}, {home()}"))
    raise MissingExtraError(
        f"Lava needs a Python 3.10 of its own, and there is none in {home()}; make it with `{COMMAND}`, "
        f"or let {VARIABLE} name a Python 3.10 with lava-nc, lava-dl and h5py"
    )


def home() -> Path:
    """Where the environment is made: $PSU_DEPLOY_LAVA_HOME, in this virtual environment, or in the user's cache."""
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser()
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "lava"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "psu-deploy" / "lava"


def setup(progress: Callable[[str], None] = lambda text: None) -> LavaEnvironment:
    """Find the environment or make it.

    Args:
        progress: called with what is being done.

    Raises:
        MissingExtraError: if there is no Python 3.10, or PSU_DEPLOY_LAVA_PYTHON names something that does not work.
        EngineError: if it cannot be made.
    """
    target = home()
    if os.environ.get(VARIABLE) or (target / STAMP).is_file():
        progress("looking at what is there")
        return find()
    progress("looking for Python 3.10")
    base = _python310()
    _remove_half_made(target)
    try:
        _make(base, target, progress)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return find()


def _remove_half_made(target: Path) -> None:
    """Clear the place, if what is there is an environment."""
    if target.is_dir() and any(target.iterdir()) and not (target / "pyvenv.cfg").is_file():
        raise EngineError(f"{target} is not empty and no environment; let {HOME_VARIABLE} name another folder")
    shutil.rmtree(target, ignore_errors=True)


def _make(base: Path, target: Path, progress: Callable[[str], None]) -> None:
    progress(f"making an environment with {base}")
    _call([str(base), "-m", "venv", str(target)])
    python = _interpreter(target)
    for packages in REQUIREMENTS:
        progress(f"installing {' '.join(p for p in packages if not p.startswith('-'))}")
        _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    progress("trying it")
    _checked(LavaEnvironment(python, COMMAND))
    (target / STAMP).write_text("made by psu-deploy lava setup; without this file it is made again\n")


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the environment for Lava was not made: {error}") from error
    if done.returncode:
        said = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise EngineError(f"the environment for Lava was not made; `{' '.join(command)}` said:\n  {said}")


def _interpreter(environment: Path) -> Path:
    return environment / "bin" / "python"


# -- is it what it is said to be -----------------------------------------------------------------------------------


def _checked(environment: LavaEnvironment) -> LavaEnvironment:
    """The same, if it works."""
    reason = _fault(environment.python)
    if reason:
        _fault.cache_clear()  # it may be mended before the next call
        raise MissingExtraError(
            f"{environment.python} ({environment.origin}) cannot run Lava: {reason}; expected a Python 3.10 with "
            f"lava-nc, lava-dl and h5py, as `{COMMAND}` makes it"
        )
    return environment


@functools.cache
def _fault(python: Path) -> str:
    """What is wrong with an interpreter, or nothing."""
    if not python.is_file():
        return "there is no such file"
    try:
        command = [str(python), "-E", "-s", "-c", _PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if done.returncode:
            return done.stderr.strip().rpartition("\n")[2] or f"it ended with exit status {done.returncode}"
        major, minor = json.loads(done.stdout)["python"]
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_PATIENCE:.0f} seconds"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"it is no Python ({error})"
    return "" if (major, minor) == (3, 10) else f"it is Python {major}.{minor}"


# -- a Python 3.10 to make it with ---------------------------------------------------------------------------------


def _python310() -> Path:
    """An interpreter that really runs: a shim of pyenv is there even where its Python is not."""
    for candidate in _candidates():
        try:
            command = [str(candidate), "-E", "-s", "-c", _IS_310]
            done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if not done.returncode:
            return candidate
    raise MissingExtraError(
        "no Python 3.10 was found, neither as python3.10 on the PATH nor by pyenv or uv; install one "
        f"(`uv python install 3.10`, or `pyenv install 3.10`) and run `{COMMAND}` again"
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
