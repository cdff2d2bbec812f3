"""Names of C: layers may be called anything, identifiers may not; comments may not end early."""

from __future__ import annotations

import re
from pathlib import Path

from psu_deploy.errors import InputError
from psu_deploy.text import visible

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]*")
_OURS = ("glue", "glue_traced", "psu_glue", "psu_traced")
"""Names of what the runner compiles with a network."""

_LONGEST = 40
"""Letters of what a layer is called in C."""


def prefix_of(path: Path) -> str:
    """What all names of a network begin with: the file's, as far as C has the letters.

    Raises:
        InputError: if no `#include` could name the file.
    """
    if not _FILE.fullmatch(path.stem):
        raise InputError(
            f"the name of a C file must be of letters, digits, blanks and _.+- alone, because other files include it; "
            f"got {path.name!r}"
        )
    word = re.sub(r"[^A-Za-z0-9_]", "_", path.stem)
    if word in _OURS:
        raise InputError(f"the name {path.name} is that of a file of the runner's own; choose another")
    return word if word[0].isalpha() else f"net_{word}"


def in_comment(text: str) -> str:
    """One line of text that may stand in a comment of C."""
    plain = visible(text).encode("ascii", "backslashreplace").decode()
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")


class Names:
    """Gives every thing an identifier of its own.

    Args:
        taken: identifiers that are not free.
    """

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def unique(self, name: str) -> str:
        """An identifier like a name, followed by a number if it is taken."""
        word = re.sub(r"[^A-Za-z0-9_]", "_", name)[:_LONGEST] or "layer"
        word = word if word[0].isalpha() else f"l{word}"
        found, count = word, 1
        while found in self._taken:
            count += 1
            found = f"{word}_{count}"
        self._taken.add(found)
        return found
