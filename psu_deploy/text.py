"""Text of other people, made fit to be shown: what a terminal would obey is spelt out, what is too long is cut."""

from __future__ import annotations

import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories: control, format (bidirectional overrides), surrogates, private, separators of lines."""

_JOINERS = "\u200c\u200d"
"""Part of how some languages are written."""


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


def _spelt(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()
