"""What an artifact's own graph and numbers say, held against what exporting a machine writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

_LONGEST = 80
"""Letters of a value in a difference."""

_KEPT = 20
"""Differences that are kept: a file of another network differs everywhere."""


@dataclass(frozen=True)
class Structure:
    """What was found before anything ran.

    Attributes:
        differences: the first of them, in words: what, where, what is there and what should be.
        unchecked: why the file could not be held against an export; "" = it was.
    """

    differences: tuple[str, ...] = ()
    unchecked: str = ""


def first_of(differences: Iterable[str]) -> Structure:
    """A structure with the first few differences."""
    return Structure(tuple(islice(differences, _KEPT)))


def metadata_difference(key: str, value: Any, expected: Any) -> Iterator[str]:
    """What a file says of itself under one key, where it is not what an export says."""
    if value != expected:
        is_, should = (text if len(text := repr(v)) <= _LONGEST else f"{text[:_LONGEST]}..." for v in (value, expected))
        yield f"its metadata say {key} is {is_}, exporting this network gives {should}"


def judged_by_version(found: Structure, written_by: str | None, here: str) -> Structure:
    """The same, unless another version of this package wrote the file: it may write other names and nodes by right.

    Args:
        found: how the file differs from what this version writes.
        written_by: version that wrote the file; None = it does not say.
        here: version of this package.
    """
    if not found.differences or written_by == here:
        return found
    return Structure(
        unchecked=f"psu-deploy {written_by or 'of an unknown version'} wrote the file, this is {here}, and writes it "
        "differently; export it again to have its numbers checked"
    )
