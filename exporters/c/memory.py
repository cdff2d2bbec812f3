"""What a network takes on a chip, as its header says it: nothing is compiled for that."""

from __future__ import annotations

import re

_LINES = (
    r" \*     memory   (?P<state>[\d,]+) bytes of state and (?P<room>[\d,]+) of room to work in, both in \w+;\n"
    r" \* +(?P<numbers>[\d,]+) bytes of numbers in "
)


def memory_of(header: bytes) -> dict[str, int]:
    """What it is for -> bytes; none where a header does not say it like this.

    Args:
        header: the text of `net.h`.
    """
    found = re.search(_LINES, header.decode("utf-8", "replace"))
    if found is None:
        return {}
    state, room, numbers = (int(found[name].replace(",", "")) for name in ("state", "room", "numbers"))
    return {"state per sample": state, "room to work in per sample": room, "numbers (flash), beside the code": numbers}
