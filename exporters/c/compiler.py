"""The system's C compiler, and what it made, kept by sources, compiler, flags and processor."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

from psu_deploy.errors import EngineError, InputError, MissingExtraError
from psu_deploy.exporters.c.target import EXACT, FLAGS, LANGUAGE
from psu_deploy.files.atomic import atomic_path, write_whole
from psu_deploy.files.cache import cache_folder, is_private
from psu_deploy.files.temporaries import temporary_folder
from psu_deploy.text import visible

VARIABLE = "CC"
_CANDIDATES = ("cc", "gcc", "clang")
_SHARED = ("-shared", "-fPIC")
_SECONDS = 600
_SUFFIX, _DIGEST = ".so", ".sha256"

_ANOTHER = f"check {VARIABLE} and the flags: together they must make a shared library"

KEPT = 200
"""Libraries in the cache."""


class Compiler(NamedTuple):
    """What is called, and what it says it is."""

    command: tuple[str, ...]
    version: str


def find_compiler() -> Compiler:
    """The one that CC names, else cc, gcc or clang.

    Raises:
        MissingExtraError: if there is none.
        EngineError: if it cannot be started.
    """
    named = os.environ.get(VARIABLE)
    return _found(named, os.environ.get("PATH"))


def found() -> str:
    """What the doctor says.

    Raises:
        MissingExtraError: if there is no compiler.
    """
    compiler = find_compiler()
    return f"ok, {shlex.join(compiler.command)} ({compiler.version})"


@contextmanager
def compiled(sources: Mapping[str, bytes], units: tuple[str, ...], flags: str | None) -> Iterator[Path]:
    """Compile sources into a shared library, or find it where it was kept; it may be gone after the block.

    Args:
        sources: name -> content of every file, those that are included too.
        units: those that are compiled.
        flags: for the compiler, instead of -O3 and -march=native; None = these.

    Raises:
        MissingExtraError: if there is no compiler.
        EngineError: if it refuses the sources, or writes nothing.
    """
    compiler = find_compiler()
    options = FLAGS if flags is None else (*_words(flags, "flags"), EXACT, LANGUAGE)
    key = _key(compiler, options, sources, units)
    kept = _kept()
    if kept is None:
        with _room() as folder:
            yield _build(compiler, options, sources, units, folder, folder / f"net{_SUFFIX}")
        return
    path = kept / f"{key}{_SUFFIX}"
    if not _is_whole(path):
        with _room() as folder, atomic_path(path) as temporary:
            _build(compiler, options, sources, units, folder, temporary)
            digest = sha256(temporary.read_bytes()).hexdigest()
        write_whole(path.with_suffix(_DIGEST), digest.encode())
        _forget_old(kept)
    yield path


def _room() -> AbstractContextManager[Path]:
    """A folder to compile in; what a killed process left is removed."""
    return temporary_folder(Path(gettempdir()), "psu-deploy-c")


def _is_whole(path: Path) -> bool:
    """Whether a library is there, and as it was made: a damaged one would end the process."""
    try:
        os.utime(path)  # used again: among the last to go
        return path.with_suffix(_DIGEST).read_text("utf-8", "replace") == sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _words(text: object, what: str) -> list[str]:
    """Words as a shell parts them.

    Raises:
        InputError: if it is no text, or a quotation in it does not end.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be text for the compiler, such as '-O2', got {text!r}")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{what} cannot be parted into words, {str(error).lower()}: {text!r}") from error


def _forget_old(folder: Path) -> None:
    """Remove what was not used for longest; who has opened it keeps it."""
    with suppress(OSError):  # another process forgets them too
        found = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        for path in found[:-KEPT]:
            path.unlink(missing_ok=True)
            path.with_suffix(_DIGEST).unlink(missing_ok=True)


def _build(
    compiler: Compiler,
    options: tuple[str, ...],
    sources: Mapping[str, bytes],
    units: tuple[str, ...],
    folder: Path,
    out: Path,
) -> Path:
    for name, content in sources.items():
        (folder / name).write_bytes(content)
    command = [*compiler.command, *options, *_SHARED, *(f"./{unit}" for unit in units), "-o", str(out.resolve()), "-lm"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the C compiler {shlex.join(compiler.command)} did not come to an end: {error}") from error
    called = f"the C compiler {shlex.join(compiler.command)}"
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr).strip()
        reason = visible(said) if said else f"it ends with {done.returncode} and says nothing; {_ANOTHER}"
        raise EngineError(f"{called} refuses the sources: {reason}")
    if not out.is_file() or not out.stat().st_size:
        raise EngineError(
            f"{called} says that all went well, and wrote nothing, given {shlex.join(options)}; {_ANOTHER}"
        )
    return out


def _key(compiler: Compiler, options: tuple[str, ...], sources: Mapping[str, bytes], units: tuple[str, ...]) -> str:
    hashed = sha256()
    said = "\0".join((*compiler.command, compiler.version, *options, *units, _processor()))
    for part in (said.encode(), *(name.encode() for name in sources), *sources.values()):
        hashed.update(f"{len(part)} ".encode())
        hashed.update(part)
    return hashed.hexdigest()


def _kept() -> Path | None:
    """The folder of libraries; None where nothing is kept."""
    folder = cache_folder("c")
    if folder is None:
        return None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder if is_private(folder) else None
    return None


@cache
def _processor() -> str:
    """What -march=native looks at."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        wanted = ("model name", "flags", "Features", "CPU part")
        return "".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
    return platform.platform() + platform.processor()


@cache
def _found(named: str | None, path: str | None) -> Compiler:
    candidates = [tuple(_words(named, VARIABLE))] if named and named.strip() else [(name,) for name in _CANDIDATES]
    for command in candidates:
        if shutil.which(command[0], path=path):
            try:
                said = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace")
            except OSError as error:
                called = f"the C compiler {shlex.join(command)}"
                raise EngineError(f"{called} does not start: {error}; {_ANOTHER}") from error
            return Compiler(command, visible(said.stdout.partition("\n")[0]))
    what = f"CC names {named!r}, which is not there" if named else f"there is no C compiler ({', '.join(_CANDIDATES)})"
    raise MissingExtraError(f"{what}; install one, such as gcc or clang, or let CC name it")
