"""The numbers of a network: source text that is compiled with it, or a file of their own that is read or mapped."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Literal

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.exporters.c.emit import Emitted
from psu_deploy.exporters.c.numbers import Numbers, table

Form = Literal["c", "bin"]
"""`c`: `net_weights.c`; `bin`: `net_weights.bin`, all numbers one behind the other, float32, little-endian."""


_FORMS: dict[str, Form] = {"c": "c", "bin": "bin"}


def check_form(weights_file: str) -> Form:
    """Raise `InputError` unless it is one of the forms."""
    if weights_file not in _FORMS:
        raise InputError(f"weights_file must be 'c' (source text) or 'bin' (a mapped file), got {weights_file!r}")
    return _FORMS[weights_file]


def mapped(emitted: Emitted) -> dict[str, Numbers]:
    """Name -> numbers, of those that lie in a file of their own, in its order."""
    return {name: values for name, values in emitted.constants.items() if _kind(values) == "float"}


def weights_file(emitted: Emitted, network: str) -> bytes:
    """The content of `net_weights.c`, or of `net_weights.bin`."""
    if emitted.mapped:
        return b"".join(values.astype("<f4").tobytes() for values in mapped(emitted).values())
    return "\n".join([*_text(emitted, network), ""]).encode()


def declarations(emitted: Emitted) -> Iterator[str]:
    """What `net.c` calls its numbers."""
    if emitted.constants:
        yield "/* The numbers of the layers; they never change. */"
    start = 0
    for name, values in emitted.constants.items():
        if not emitted.mapped:
            yield f"extern const {_kind(values)} {name}[{values.size}];"
        elif _kind(values) == "int":
            yield from (f"static const int {name}[{values.size}] = {{", *table(values), "};")
        else:
            yield f"#define {name} (s->weights + {start}) /* {_shape(values)} */"
            start += values.size


def _text(emitted: Emitted, network: str) -> Iterator[str]:
    yield f"/* The numbers of {network}, float32 in hexadecimal: 0x1.8p-3f is 1.5 / 8. */"
    for name, values in emitted.constants.items():
        declared = f"const {_kind(values)} {name}[{values.size}]"
        yield from ("", f"/* {_shape(values)} */", f"extern {declared};", f"{declared} = {{", *table(values), "};")
    if not emitted.constants:  # a file of C must declare something
        yield from ("", f"extern const int {emitted.prefix}_layer_without_numbers;")
        yield f"const int {emitted.prefix}_layer_without_numbers = 0;"


def _kind(values: Numbers) -> str:
    return "int" if values.dtype.kind == "i" else "float"


def _shape(values: Numbers) -> str:
    return " x ".join(map(str, values.shape)) or "1"


def named(content: bytes, emitted: Emitted) -> dict[str, Numbers]:
    """Name -> numbers as they lie in a file, as far as it goes."""
    found, flat, start = {}, np.frombuffer(content[: len(content) // 4 * 4], "<f4"), 0
    for name, values in mapped(emitted).items():
        found[name] = flat[start : start + prod(values.shape)]
        start += prod(values.shape)
    return found
