"""Holds C files of an integer network against what exporting a machine writes: number for number, line for line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.c.header import parted
from psu_deploy.exporters.c.integers.header import LIBRARIES, IntegerCHeader
from psu_deploy.exporters.c.integers.numbers import as_plain, from_plain
from psu_deploy.exporters.c.integers.sources import sources_of
from psu_deploy.exporters.integers.again import CannotBeSaidError, again, apart, facts_apart
from psu_deploy.exporters.integers.tree import tree_of_network
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version
from psu_deploy.text import visible

_LONGEST = 100
"""Letters of a line in a difference."""


def structure_of(path: Path, sources: Mapping[str, bytes], header: IntegerCHeader, machine: StateMachine) -> Structure:
    """How files stand against an export of a machine.

    Args:
        path: of `net.c`.
        sources: name -> content of the files that are compiled.
        header: what they say of themselves.
        machine: what they should be an export of.
    """
    metadata = header.facts
    try:
        network, said, report = again(metadata, machine, "C", LIBRARIES)
        expected = sources_of(network, said | {"machine_hash": header.machine_hash}, path)
    except CannotBeSaidError as error:
        return Structure((str(error),))
    except UnsupportedModelError as error:
        return Structure((f"this network cannot be exported to C: {error.problems[0].reason}",))
    trees = from_plain(header.network), from_plain(as_plain(tree_of_network(network)))
    numbers = [*apart("layer", *trees), *facts_apart(metadata, said), *report]
    found = first_of(numbers or list(_lines_apart(path, sources, expected)))
    return judged_by_version(found, header.versions.get("psu-deploy"), version("psu-deploy"))


def _lines_apart(path: Path, sources: Mapping[str, bytes], expected: Mapping[str, bytes]) -> Iterator[str]:
    """Where the text of a file is not what its numbers give: their place, and both lines."""
    for name, content in sources.items():
        both = content, expected[name]
        texts = [parted(path, text)[0] if name == path.name else text for text in both]
        lines, wanted = (text.decode(errors="replace").split("\n") for text in texts)
        for number, (is_, should) in enumerate(zip_longest(lines, wanted), 1):
            if is_ != should:
                shown = ["nothing" if line is None else repr(visible(line.strip(), _LONGEST)) for line in (is_, should)]
                yield f"{name}, line {number}: there is {shown[0]}, exporting this network gives {shown[1]}"
