"""Text of other people, made fit to be shown: what a terminal would obey is spelt out, what is too long is cut."""

from __future__ import annotations

import difflib
import io
import unicodedata
from collections.abc import Iterable, Sequence

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories: control, format (bidirectional overrides), surrogates, private, separators of lines."""

_JOINERS = "\u200c\u200d"
"""Part of how some languages are written."""

_WORD = 200
"""Characters of a word that somebody may have meant to be another one."""


def visible(text: str, most: int = 200) -> str:
    r"""One line of ordinary text: an escape sequence comes out as `\x1b[31m`, a lone surrogate as `\udc80`.

    Args:
        text: from anywhere.
        most: characters to show; what is beyond is cut in the middle, for beginning and end say most.
    """
    if len(text) > most:
        kept = max(1, (most - 5) // 2)
        text = f"{text[:kept]} ... {text[-kept:]}"
    return text if text.isprintable() else "".join(map(_spelt, text))


def visible_lines(text: str, most: int = 200) -> str:
    """The same of several lines, such as a table."""
    return "\n".join(visible(line, most) for line in text.split("\n"))


def columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines of text, column under column.

    Args:
        rows: of one length each, the head included.
        left: how many columns are aligned to the left; those behind them are numbers, to the right.
    """
    from rich.console import Console  # here: `import psu_deploy` does without
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for index in range(len(rows[0])):
        grid.add_column(justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(cell.replace("\n", " ")) for cell in row))
    width = 1 + sum(len(cell.encode()) + 2 for row in rows for cell in row)  # more than any line takes
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(grid)
    return [line.rstrip() for line in captured.get().splitlines()]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question for a message about a word that is not known; nothing where none of the known ones is like it.

    >>> did_you_mean("treshold", ["tau", "threshold"]), did_you_mean("speed", ["tau"])
    (' (did you mean threshold?)', '')
    """
    found = difflib.get_close_matches(word.lower()[:_WORD], list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _spelt(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()
