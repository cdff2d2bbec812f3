"""What an export writes: the header for whoever calls the network, the network, its numbers, and a page about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.exporters.c.declare import header_text
from psu_deploy.exporters.c.emit import Emitted, emit
from psu_deploy.exporters.c.header import MARK, facts_of
from psu_deploy.exporters.c.names import prefix_of
from psu_deploy.exporters.c.numbers import table
from psu_deploy.exporters.c.page import page_text
from psu_deploy.machine import StateMachine
from psu_deploy.numerics.sigmoid_table import knots

_HELPERS = {
    "active": "rows.c",
    "add_rows": "rows.c",
    "sigmoid": "sigmoid.c",
    "sigmoid_table": "sigmoid_table.c",
    "uniform": "noise.c",
}
"""Function -> the text that holds it."""


def names_of(path: Path) -> tuple[str, str, str, str]:
    """The files of a network, `net.c` first: what the others are called follows from it."""
    stem = path.stem
    return f"{stem}.c", f"{stem}.h", f"{stem}_weights.c", f"{stem}.md"


def sources_of(machine: StateMachine, path: Path) -> dict[str, str]:
    """Name -> text of every file of an export, `net.c` first.

    Args:
        machine: what to export.
        path: of `net.c`; only its name counts.

    Raises:
        InputError: if no file of C may be called that.
        UnsupportedModelError: if there is something that has no rule.
    """
    prefix = prefix_of(path)
    emitted = emit(machine, prefix)
    network, header, weights, page = names_of(path)
    others = {header: header_text(machine, emitted, weights), weights: _weights_text(emitted, network)}
    text = _network_text(emitted, header)
    facts = facts_of(machine, emitted)
    said = {name: sha256(content.encode()).hexdigest() for name, content in others.items()}
    facts["files"] = {network: sha256(text.encode()).hexdigest(), **said}
    return {network: text + metadata_text(facts), **others, page: page_text(machine, emitted, path.stem)}


def metadata_text(facts: dict[str, Any]) -> str:
    """The last lines of `net.c`: what the files say of themselves, in a comment that no name can end."""
    written = json.dumps(facts, indent=1).replace("/", "\\/").replace("?", "\\u003f")
    return f"\n{MARK}\n{written}\n*/\n"


def fixed_text(name: str, prefix: str) -> str:
    """A file of `text/`, its names made those of a network."""
    text = files("psu_deploy.exporters.c").joinpath("text", name).read_text("utf-8")
    text = re.sub(r"\bnet_", f"{prefix}_", text)
    return re.sub(r"\bNET_", f"{prefix.upper()}_", text)


def _network_text(emitted: Emitted, header: str) -> str:
    prefix = emitted.prefix
    wanted = dict.fromkeys(_HELPERS[name] for name in emitted.helpers)
    helpers = [fixed_text(name, prefix).replace("/*KNOTS*/", _knots()) for name in _HELPERS.values() if name in wanted]
    parts = [
        f'#include "{header}"',
        fixed_text("begin.c", prefix),
        *(["\n".join(_declarations(emitted))] if emitted.constants else []),
        *dict.fromkeys(helpers),
        *emitted.functions,
        "\n".join(_step(emitted)),
        fixed_text("end_with_horizon.c" if emitted.horizon else "end.c", prefix),
    ]
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _knots() -> str:
    values = [str(value) for value in knots().tolist()]
    return ",\n    ".join(", ".join(values[start : start + 13]) for start in range(0, len(values), 13))


def _declarations(emitted: Emitted) -> Iterator[str]:
    yield "/* The numbers of the layers; they never change. */"
    for name, values in emitted.constants.items():
        yield f"extern const {_kind(values)} {name}[{values.size}];"


def _kind(values: np.ndarray[Any, Any]) -> str:
    return "int" if values.dtype.kind == "i" else "float"


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


def _weights_text(emitted: Emitted, network: str) -> str:
    lines = [f"/* The numbers of {network}, float32 in hexadecimal: 0x1.8p-3f is 1.5 / 8. */"]
    for name, values in emitted.constants.items():
        shape = " x ".join(map(str, values.shape)) or "1"
        declared = f"const {_kind(values)} {name}[{values.size}]"
        lines += ["", f"/* {shape} */", f"extern {declared};", f"{declared} = {{", *table(values), "};"]
    if not emitted.constants:
        lines += ["", f"extern const int {emitted.prefix}_layer_without_numbers;"]
        lines += [f"const int {emitted.prefix}_layer_without_numbers = 0;"]
    return "\n".join(lines) + "\n"
