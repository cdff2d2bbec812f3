"""What an export writes: the header for whoever calls the network, the network, its numbers, and a page about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from psu_deploy.exporters.c.declare import header_text
from psu_deploy.exporters.c.emit import Emitted
from psu_deploy.exporters.c.header import MARK, facts_of
from psu_deploy.exporters.c.weights import Form, declarations, weights_file
from psu_deploy.machine import StateMachine
from psu_deploy.numerics.sigmoid_table import knots

_HELPERS = {
    "active": ("bits.c", "rows.c"),
    "add_rows": ("bits.c", "rows.c"),
    "channels_first": ("channels.c",),
    "sigmoid": ("bits.c", "sigmoid.c"),
    "sigmoid_table": ("sigmoid_table.c",),
    "uniform": ("noise.c",),
}
"""Function -> the texts that it takes, in order."""


def names_of(path: Path, weights: Form) -> tuple[str, str, str]:
    """The sources of a network, `net.c` first: what the others are called follows from it."""
    return f"{path.stem}.c", f"{path.stem}.h", f"{path.stem}_weights.{weights}"


def page_of(path: Path) -> str:
    """The name of the page beside them."""
    return f"{path.stem}.md"


def sources_of(machine: StateMachine, emitted: Emitted, path: Path) -> dict[str, bytes]:
    """Name -> content of every source of an export, `net.c` first.

    Args:
        machine: what is exported.
        emitted: a step of it.
        path: of `net.c`; only its name counts.
    """
    network, header, weights = names_of(path, "bin" if emitted.mapped else "c")
    others = {
        header: header_text(machine, emitted, weights).encode(),
        weights: weights_file(emitted, network),
    }
    text = _network_text(emitted, header).encode()
    facts = facts_of(machine, emitted)
    facts["files"] = {name: sha256(content).hexdigest() for name, content in {network: text, **others}.items()}
    return {network: text + metadata_text(facts).encode(), **others}


def metadata_text(facts: dict[str, Any]) -> str:
    """The last lines of `net.c`: what the files say of themselves, in a comment that no name can end."""
    written = json.dumps(facts, indent=1).replace("/", "\\u002f").replace("?", "\\u003f")
    return f"\n{MARK}\n{written}\n*/\n"


def fixed_text(name: str, prefix: str) -> str:
    """A file of `text/`, its names made those of a network."""
    text = files("psu_deploy.exporters.c").joinpath("text", name).read_text("utf-8")
    text = re.sub(r"\bnet_", f"{prefix}_", text)
    return re.sub(r"\bNET_", f"{prefix.upper()}_", text)


def _network_text(emitted: Emitted, header: str) -> str:
    prefix = emitted.prefix
    wanted = {text for name in emitted.helpers for text in _HELPERS[name]}
    texts = [text for text in dict.fromkeys(chain.from_iterable(_HELPERS.values())) if text in wanted]
    parts = [
        f'#include "{header}"',
        fixed_text("begin.c", prefix),
        *(["\n".join(declarations(emitted))] if emitted.constants else []),
        *(fixed_text(name, prefix).replace("/*KNOTS*/", _knots()) for name in texts),
        *emitted.functions,
        "\n".join(_step(emitted)),
        fixed_text("reset_mapped.c" if emitted.mapped else "reset.c", prefix),
        fixed_text("step_with_horizon.c" if emitted.horizon else "step.c", prefix),
    ]
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _knots() -> str:
    values = [str(value) for value in knots().tolist()]
    return ",\n    ".join(", ".join(values[start : start + 13]) for start in range(0, len(values), 13))


def _step(emitted: Emitted) -> Iterator[str]:
    """The function that calls the layers, in network order."""
    prefix = emitted.prefix
    calls = "\n".join(emitted.calls)
    yield "/* One step: every layer once, in network order. `w` is what need not last. */"
    given = f"{prefix}_state *s, {prefix}_work *w, const float *restrict x, float *restrict y"
    yield f"static void {prefix}_layers({given}) {{"
    if emitted.counts:
        yield "    const int64_t t = s->step;"
    for name in ("s", "w", "t", "x"):
        declared = name != "t" or emitted.counts
        if declared and not re.search(rf"\b{name}\b", calls):
            yield f"    (void){name};"
    yield from (f"    {line}" for line in calls.split("\n"))
    if emitted.counts:
        yield "    s->step = t + 1;"
    yield "}"
