"""Examples in docstrings are code: lines that begin with `>>>`, and what they print, up to the next empty line."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts them between fences, where Markdown would make quotations of them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Before the docstring is read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
