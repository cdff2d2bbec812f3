"""Holds C sources against what exporting a machine writes: emitted again and compared, line for line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.c.emit import Emitted, emit
from psu_deploy.exporters.c.header import CHeader, facts_of, metadata_in, parted
from psu_deploy.exporters.c.numbers import PER_LINE
from psu_deploy.exporters.c.sources import sources_of
from psu_deploy.exporters.c.weights import mapped, named
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version
from psu_deploy.text import visible

_NUMBER = re.compile(r"(-?0x[0-9a-f.]+p[+-]\d+)f,")

_MOST = 3
"""Numbers of an array that are named."""

_OF_THE_WRITER = ("machine_hash", "versions", "files")
"""Metadata that say who wrote the files, and of what; the rest is held against an export."""

_MACHINE = re.compile(r" \*     machine  [0-9a-f]{64}")

_LONGEST = 100
"""Letters of a line in a difference."""


def structure_of(path: Path, sources: Mapping[str, bytes], header: CHeader, machine: StateMachine) -> Structure:
    """How files stand against an export of a machine.

    Args:
        path: of `net.c`.
        sources: name -> content of its files.
        header: what they say of themselves.
        machine: what they should be an export of.
    """
    try:
        emitted = emit(machine, header.prefix, mapped=header.weights == "bin")
    except UnsupportedModelError as error:
        return Structure((f"this network cannot be exported to C: {error.problems[0].reason}",))
    found = first_of(_differences(path, sources, machine, emitted))
    return judged_by_version(found, header.versions.get("psu-deploy"), version("psu-deploy"))


def _differences(path: Path, sources: Mapping[str, bytes], machine: StateMachine, emitted: Emitted) -> Iterator[str]:
    yield from _of_metadata(metadata_in(path, sources[path.name]), json.loads(json.dumps(facts_of(machine, emitted))))
    for name, content in sources_of(machine, emitted, path).items():
        if emitted.mapped and name.endswith(".bin"):
            yield from _of_numbers(name, sources[name], content, emitted)
        else:
            both = sources[name], content
            texts = [parted(path, text)[0] if name == path.name else text for text in both]
            yield from _of_lines(name, *(text.decode(errors="replace") for text in texts))


def _of_metadata(said: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    for key, value in expected.items():
        if key not in _OF_THE_WRITER and said.get(key) != value:
            shown = visible(json.dumps(said.get(key)), _LONGEST), visible(json.dumps(value), _LONGEST)
            yield f"its metadata say {key} is {shown[0]}, exporting this network gives {shown[1]}"


def _of_numbers(name: str, content: bytes, expected: bytes, emitted: Emitted) -> Iterator[str]:
    """Compared as bytes: -0.0 is not 0.0."""
    if len(content) != len(expected):
        yield f"{name} has {len(content):,} bytes, exporting this network gives {len(expected):,}"
    for array, values in mapped(emitted).items():
        found = named(content, emitted)[array]
        ours = values.ravel().astype("<f4")[: len(found)]
        for place in np.flatnonzero(found.view("<u4") != ours.view("<u4"))[:_MOST]:
            yield (
                f"{name}: {array}[{place}] is {float(found[place])!r}, exporting this network gives "
                f"{float(ours[place])!r}"
            )


def _of_lines(name: str, text: str, expected: str) -> Iterator[str]:
    lines, wanted = text.split("\n"), expected.split("\n")
    inside, begun = "", 0
    for number, (is_, should) in enumerate(zip_longest(lines, wanted), 1):
        line = should or is_ or ""
        heading = _heading(line)
        inside, begun = (heading, number) if heading else (inside, begun)
        inside = _said_of(wanted[number - 1 :]) if line.startswith("/*") else inside
        if is_ == should or _of_the_writer(is_, should):
            continue
        numbers = list(_numbers(is_ or "", should or "", (number - begun - 1) * PER_LINE))
        for place, one, other in numbers:
            yield f"{name}: {inside}[{place}] is {one!r}, exporting this network gives {other!r}"
        if not numbers:
            where = f"{name}, line {number}{f', in {inside}' if inside else ''}"
            yield f"{where}: there is {_shown(is_)}, exporting this network gives {_shown(should)}"


def _numbers(is_: str, should: str, start: int) -> Iterator[tuple[int, float, float]]:
    """Place in the array and both numbers, where two lines are numbers, as many of them, and not the same."""
    rows = [_NUMBER.findall(line) for line in (is_, should)]
    if len(rows[0]) == len(rows[1]) and not any(_NUMBER.sub("", line).strip() for line in (is_, should)):
        for place, (one, other) in enumerate(zip(*rows, strict=True), start):
            if one != other:
                yield place, float.fromhex(one), float.fromhex(other)


def _heading(line: str) -> str:
    """The function or the array that a line begins."""
    found = re.match(r"(?:static void|const (?:float|int)) (\w+)", line)
    return found.group(1) if found else ""


def _said_of(lines: Sequence[str]) -> str:
    """What a comment is about: the function or the array right behind it; "" = none."""
    end = next((index for index, line in enumerate(lines) if line.endswith("*/")), len(lines))
    return _heading("".join(lines[end + 1 : end + 2]))


def _of_the_writer(*lines: str | None) -> bool:
    """The hash of the machine, which says of another one that it is another, and not what differs."""
    return all(line is not None and _MACHINE.fullmatch(line) for line in lines)


def _shown(line: str | None) -> str:
    if line is None:
        return "nothing"
    return repr(visible(line.strip(), _LONGEST))
