"""Holds C sources against what exporting a machine writes: emitted again and compared, line for line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.c.header import MARK, CHeader
from psu_deploy.exporters.c.sources import sources_of
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version
from psu_deploy.text import visible

_LONGEST = 100
"""Letters of a line in a difference."""


def structure_of(path: Path, sources: Mapping[str, str], header: CHeader, machine: StateMachine) -> Structure:
    """How files stand against an export of a machine.

    Args:
        path: of `net.c`.
        sources: name -> text of the files that are compiled.
        header: what they say of themselves.
        machine: what they should be an export of.
    """
    try:
        expected = sources_of(machine, path)
    except UnsupportedModelError as error:
        return Structure((f"this network cannot be exported to C: {error.problems[0].reason}",))
    found = first_of(_differences(sources, expected))
    return judged_by_version(found, header.versions.get("psu-deploy"), version("psu-deploy"))


def _differences(sources: Mapping[str, str], expected: Mapping[str, str]) -> Iterator[str]:
    """The metadata say of the files what is seen here anyway, and who wrote them."""
    for name, text in sources.items():
        lines, wanted = ((t.partition(f"\n{MARK}\n")[0]).split("\n") for t in (text, expected[name]))
        inside = ""
        for number, (is_, should) in enumerate(zip_longest(lines, wanted), 1):
            inside = _heading(should or is_ or "") or inside
            if is_ != should and not _of_the_writer(is_, should):
                where = f"{name}, line {number}{f', in {inside}' if inside else ''}"
                yield f"{where}: there is {_shown(is_)}, exporting this network gives {_shown(should)}"


def _heading(line: str) -> str:
    """The function or the array that a line begins."""
    found = re.match(r"(?:static void|const (?:float|int)) (\w+)", line)
    return found.group(1) if found else ""


def _of_the_writer(*lines: str | None) -> bool:
    """The hash of the machine, which says of another one that it is another, and not what differs."""
    return all(line is not None and line.startswith(" *     machine  ") for line in lines)


def _shown(line: str | None) -> str:
    if line is None:
        return "nothing"
    return repr(visible(line.strip(), _LONGEST))
