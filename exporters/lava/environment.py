"""The Python 3.10 environment that Lava runs in: found, or made.

lava-nc 0.10 runs on Python 3.10 and nothing newer, lava-dl pins an old torch that nothing here needs; so they live in
an environment of their own, 470 MB, and `job` talks to it.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psu_deploy.errors import EngineError, MissingExtraError
from psu_deploy.exporters.lava.python310 import find_python310
from psu_deploy.files.atomic import write_whole
from psu_deploy.files.temporaries import is_temporary

VARIABLE = "PSU_DEPLOY_LAVA_PYTHON"
HOME_VARIABLE = "PSU_DEPLOY_LAVA_HOME"
COMMAND = "psu-deploy lava setup"

REQUIREMENTS = (("lava-nc==0.10.0", "h5py>=3.10", "numpy<2"), ("--no-deps", "lava-dl==0.6.0"))
"""What pip is told, call by call. Without its dependencies lava-dl is 70 MB, with them 5 GB."""

STAMP = "complete"
"""Written last: an environment without it was never finished."""

OURS = "made-by-psu-deploy"
"""Written first: what has it may be removed, however little of an environment it is yet."""

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
        return _checked(LavaEnvironment(_absolute(named), VARIABLE))
    made = _interpreter(home())
    if (home() / STAMP).is_file():
        return _checked(LavaEnvironment(made, f"{COMMAND}, {home()}"))
    raise MissingExtraError(
        f"Lava needs a Python 3.10 of its own, and there is none in {home()}; make it with `{COMMAND}`, "
        f"or let {VARIABLE} name a Python 3.10 with lava-nc, lava-dl and h5py"
    )


def _absolute(path: str) -> Path:
    """Links are not followed: the interpreter of a virtual environment is one, and knows it by its name."""
    return Path.cwd() / Path(path).expanduser()


def home() -> Path:
    """Where the environment is made: $PSU_DEPLOY_LAVA_HOME, in this virtual environment, or in the user's cache."""
    if named := os.environ.get(HOME_VARIABLE):
        return _absolute(named)
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "lava"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "psu-deploy" / "lava"


def setup(progress: Callable[[str], None] | None = None) -> LavaEnvironment:
    """Find the environment or make it.

    Args:
        progress: called with what is being done, or None.

    Raises:
        MissingExtraError: if there is no Python 3.10, or PSU_DEPLOY_LAVA_PYTHON names something that does not work.
        EngineError: if it cannot be made.
        ArtifactError: if nothing can be written where it is to be.
    """
    target, say = home(), progress or _silent
    if os.environ.get(VARIABLE):
        return find()
    if (target / STAMP).is_file():
        say("looking at what is there")
        with suppress(MissingExtraError):  # its Python may have been removed: then it is made again
            return find()
    say("looking for Python 3.10")
    base = find_python310(COMMAND)
    _remove_half_made(target)
    try:
        _make(base, target, say)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return find()


def _silent(text: str) -> None:
    pass


def _remove_half_made(target: Path) -> None:
    """Clear the place, if what is there is an environment."""
    ours = (target / OURS).is_file() or (target / "pyvenv.cfg").is_file()
    if target.is_dir() and not ours and not all(is_temporary(path) for path in target.iterdir()):
        raise EngineError(
            f"{target} is not empty and no environment; let {HOME_VARIABLE} name another folder, or remove this one"
        )
    shutil.rmtree(target, ignore_errors=True)


def _make(base: Path, target: Path, progress: Callable[[str], None]) -> None:
    progress(f"making an environment with {base}")
    write_whole(target / OURS, b"an environment for Lava, made by psu-deploy lava setup\n")
    _call([str(base), "-E", "-m", "venv", str(target)])
    python = _interpreter(target)
    for packages in REQUIREMENTS:
        progress(f"installing {' '.join(p for p in packages if not p.startswith('-'))}")
        _call([str(python), "-E", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    progress("trying it")
    _checked(LavaEnvironment(python, COMMAND))
    write_whole(target / STAMP, b"made by psu-deploy lava setup; without this file it is made again\n")


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
