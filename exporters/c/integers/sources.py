"""What an export writes: the header for whoever calls the network, the network, its numbers, and a page about them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from psu_deploy.exporters.c.integers.declare import facts, header_text
from psu_deploy.exporters.c.integers.emit import HELPERS, Emitted, emit
from psu_deploy.exporters.c.integers.header import FORMAT
from psu_deploy.exporters.c.integers.numbers import as_plain
from psu_deploy.exporters.c.names import prefix_of
from psu_deploy.exporters.c.sources import metadata_text, names_of
from psu_deploy.exporters.integers.network import IntegerNetwork, Integers
from psu_deploy.exporters.integers.tree import tree_of_network
from psu_deploy.numerics.sigmoid_table import knots
from psu_deploy.text import visible

_PER_LINE = 16

_CALLS = {
    "argument": ("floor",),
    "shifted": ("saturate",),
}
"""Function of `text/` -> those that it calls."""


def sources_of(network: IntegerNetwork, metadata: Mapping[str, Any], path: Path) -> dict[str, bytes]:
    """Name -> content of every source of an export, `net.c` first.

    Args:
        network: what to export.
        metadata: what there is to say of it, see `psu_deploy.exporters.integers.metadata`.
        path: of `net.c`; only its name counts.

    Raises:
        InputError: if no file of C may be called that.
        UnsupportedModelError: if a layer does not fit into the numbers of C.
    """
    emitted = emit(network, prefix_of(path))
    source, header, weights = names_of(path, "c")
    others = {
        header: header_text(emitted, metadata, weights).encode(),
        weights: _weights_text(emitted, source).encode(),
    }
    text = _network_text(emitted, header).encode()
    said = {
        **metadata,
        "format": FORMAT,
        "prefix": emitted.prefix,
        "trace": emitted.layers,
        "files": {name: sha256(content).hexdigest() for name, content in {source: text, **others}.items()},
        "network": as_plain(tree_of_network(network)),
    }
    return {source: text + metadata_text(said).encode(), **others}


def fixed_text(name: str, prefix: str) -> str:
    """A file of `text/`, its names made those of a network."""
    text = files("psu_deploy.exporters.c.integers").joinpath("text", name).read_text("utf-8")
    text = re.sub(r"\bnet_", f"{prefix}_", text)
    return re.sub(r"\bNET_", f"{prefix.upper()}_", text)


def _network_text(emitted: Emitted, header: str) -> str:
    prefix = emitted.prefix
    called = {name for helper in emitted.helpers for name in (helper, *_CALLS.get(helper, ()))}
    helpers = [
        fixed_text(text, prefix).replace("/*KNOTS*/", _knots()) for name, text in HELPERS.items() if name in called
    ]
    parts = [
        f'#include "{header}"',
        fixed_text("begin.c", prefix),
        "\n".join(_declarations(emitted)),
        *helpers,
        *emitted.functions,
        "\n".join(_layers(emitted)),
        fixed_text("end.c" if emitted.network.horizon is None else "end_with_horizon.c", prefix),
    ]
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _knots() -> str:
    values = [str(value) for value in knots().tolist()]
    return ",\n    ".join(", ".join(values[start : start + 13]) for start in range(0, len(values), 13))


def _declarations(emitted: Emitted) -> Iterator[str]:
    yield "/* The numbers of the layers; they never change. */"
    for name, values in emitted.constants.items():
        yield f"extern const {_kind(values)} {name}[{values.size}];"


def _kind(values: Integers) -> str:
    return f"{values.dtype.name}_t"


def _layers(emitted: Emitted) -> Iterator[str]:
    """The function that calls the layers."""
    prefix = emitted.prefix
    yield "/* One step: every layer once. `count` neurons spiked, or sent a number; `w` is what need not last. */"
    yield f"static void {prefix}_layers({prefix}_state *s, {prefix}_work *w, const int16_t *x, int32_t *y) {{"
    yield from (f"    {line}" for line in emitted.calls)
    if emitted.network.horizon is not None:
        yield "    s->step++;"
    yield "}"


def _weights_text(emitted: Emitted, network: str) -> str:
    lines = [f"/* The numbers of {network}, whole numbers all of them. */", "#include <stdint.h>"]
    for name, values in emitted.constants.items():
        shape = " x ".join(map(str, values.shape)) or "1"
        declared = f"const {_kind(values)} {name}[{values.size}]"
        lines += ["", f"/* {shape} */", f"extern {declared};", f"{declared} = {{", *_table(values), "};"]
    return "\n".join(lines) + "\n"


def _table(values: Integers) -> Iterator[str]:
    words = list(map(str, values.ravel().tolist()))
    for start in range(0, len(words), _PER_LINE):
        yield f"    {', '.join(words[start : start + _PER_LINE])},"


def page_text(network: IntegerNetwork, metadata: Mapping[str, Any], path: Path) -> str:
    """The text of `net.md`."""
    emitted, stem = emit(network, prefix_of(path)), path.stem
    text = files("psu_deploy.exporters.c.integers").joinpath("text", "page.md").read_text("utf-8")
    said = "\n".join(visible(line) for line in facts(emitted, metadata, f"{stem}_weights.c"))
    upper = emitted.prefix.upper()
    words = {"STEM": stem, "PREFIX": emitted.prefix, "UPPER": upper, "FACTS": said}
    words["STEPS"] = "10" if network.horizon is None else f"{upper}_HORIZON"
    words |= {"SOURCE": shlex.quote(f"{stem}.c"), "NUMBERS": shlex.quote(f"{stem}_weights.c")}
    for word, meaning in words.items():
        text = text.replace(f"@{word}@", meaning)
    return text
