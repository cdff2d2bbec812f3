"""Does what a page of the documentation says, from top to bottom, as a reader would."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

from psu_deploy.training import registry
from tests.cli.conftest import call

_PARTS = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```|^    (\S[^\n]*)$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w.]+\.(?:py|toml))\n")


def follow(page: Path, folder: Path) -> tuple[int, int]:
    """Do it in a folder, which is the current one and on the path.

    Python is run, all of it in one namespace; what begins with `# name.py` or `# name.toml` is written to that file;
    lines that begin with `psu-deploy` are commands. `pip install -e .` has the entry points of pyproject.toml found.

    Returns:
        How many pieces of Python were run, and how many commands.
    """
    names: dict[str, object] = {}
    code = commands = 0
    for language, text, line in _PARTS.findall(page.read_text()):
        named = _FILE.match(text)
        if named:
            (folder / named[1]).write_text(text)
        elif language == "python":
            exec(compile(text, f"{page.name}, block {code}", "exec"), names)
            code += 1
        elif line.startswith("psu-deploy "):
            _command(line.partition("  #")[0])
            commands += 1
        elif line == "pip install -e .":
            _install(folder)
    return code, commands


def _command(line: str) -> None:
    registry._REGISTERED.clear()  # another process would know nothing of what was registered in this one
    done = call(*shlex.split(line)[1:])
    assert done.code == 0, f"{line}\n{done.out}{done.err}"


def _install(folder: Path) -> None:
    """What pip would leave for an editable install."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in rows.items()) for group, rows in groups]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    sys.path_importer_cache.pop(str(folder), None)
