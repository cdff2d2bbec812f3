"""What C files of ours say of themselves: JSON in the last comment of `net.c`, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.c.emit import Emitted
from psu_deploy.exporters.c.weights import Form
from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops.along_time import MAX_DELAY
from psu_deploy.runtime.header import Given, Header, malformed, read_header

FORMAT = "psu-deploy.c.1"

MARK = "/* What psu-deploy knows of these files:"

_MARK = f"\n{MARK}\n".encode()
_END = b"*/"


MachineHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""It stands in a comment of C."""


Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]*\Z")]
"""A name in C."""


class Output(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that comes out, and its features."""

    name: str
    shape: Given


class StateEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of state, and the member of the struct that holds it."""

    name: str
    member: Identifier
    shape: Given


class LayerEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One layer."""

    name: str
    kind: str
    shape: Given


@dataclass(frozen=True, kw_only=True)
class CHeader(Header):
    """What C files of ours say of themselves.

    Attributes:
        prefix: of all names.
        weights: where the numbers lie, "c" or "bin".
        outputs: in the order in which they lie in y.
        states: in the order in which they lie in the struct.
        counts: whether there is a step counter.
        numbered: whether a state knows its sample.
        neurons: neuron layer -> its name in the trace.
        layers: in network order.
        files: name -> SHA-256 of its text; of `net.c`, without the comment that says so.
    """

    target: ClassVar[str] = "c"
    format: ClassVar[str] = FORMAT

    latency: Annotated[int, Meta(ge=0, le=MAX_DELAY)]
    machine_hash: MachineHash
    prefix: Identifier
    weights: Form
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1)]
    states: tuple[StateEntry, ...]
    counts: bool
    numbered: bool
    neurons: dict[str, Identifier]
    layers: tuple[LayerEntry, ...]
    files: dict[str, str]


def facts_of(machine: StateMachine, emitted: Emitted) -> dict[str, Any]:
    """What files say of the machine they were made from, and of who wrote them; `files` is still to be added."""
    outputs = [{"name": name, "shape": shape} for name, shape in machine.outputs.items()]
    sizes = [prod(shape) for shape in machine.outputs.values()]
    return {
        "format": FORMAT,
        "fidelity": "faithful",
        "approximations": [],
        "horizon": machine.horizon,
        "latency": machine.latency,
        "static_input": machine.static_input,
        "machine_hash": machine.content_hash,
        "versions": {name: version(name) for name in ("psu-deploy", "torch", "numpy")},
        "prefix": emitted.prefix,
        "weights": "bin" if emitted.mapped else "c",
        "input_shape": machine.input_shape,
        "output_shape": (sum(sizes),) if len(sizes) > 1 else next(iter(machine.outputs.values())),
        "outputs": outputs,
        "states": [{"name": m.name, "member": m.ident, "shape": m.shape} for m in emitted.members],
        "counts": emitted.counts,
        "numbered": emitted.numbered,
        "neurons": emitted.neurons,
        "layers": [
            {"name": node.name, "kind": type(node.layer).__name__, "shape": machine.shapes[node.name]}
            for node in machine.nodes
        ],
    }


def header_of(path: Path, content: bytes) -> CHeader:
    """What files say of themselves.

    Args:
        path: of `net.c`.
        content: of it.

    Raises:
        ArtifactError: if it was not written by us, or is of another format.
    """
    try:
        return read_header(CHeader, metadata_in(path, content))
    except ValueError as error:
        raise malformed(path, "psu-deploy", error) from error


def metadata_in(path: Path, content: bytes) -> Any:
    """What the last comment of `net.c` says, as JSON gives it.

    Raises:
        ArtifactError: if there is no such comment, or anything but JSON in it.
    """
    _, written = parted(path, content)
    try:
        return json.loads(written.decode())  # decoded here: JSON would take other encodings, a compiler takes bytes
    except (ValueError, RecursionError) as error:
        raise malformed(path, "psu-deploy", error) from error


def parted(path: Path, content: bytes) -> tuple[bytes, bytes]:
    """The text of `net.c`, all that is compiled of it, and what the comment behind it holds.

    The one place that says where the first ends: what is hashed and compared is what is compiled.

    Raises:
        ArtifactError: if there is no such comment, it begins twice, or it is not all that there is to the end.
    """
    text, found, behind = content.partition(_MARK)
    if not found:
        raise ArtifactError(f"{path} is a C file but was not written by psu-deploy, or its last comment is missing")
    written, end, rest = behind.partition(_END)
    if not end or rest.strip() or _MARK in behind:
        reason = "their comment must begin once, and end with the file"
        raise malformed(path, "psu-deploy", ValueError(reason))
    return text, written


def check_files(path: Path, files: Mapping[str, str], sources: Mapping[str, bytes]) -> None:
    """Raise `ArtifactError` unless files are what was written together.

    Args:
        path: of `net.c`.
        files: what it says of all of them, name -> SHA-256.
        sources: name -> content.
    """
    if set(files) != set(sources):
        raise ArtifactError(
            f"{path}: its metadata speak of {sorted(files)}, an export called {path.name} has "
            f"{sorted(sources)}; export it again, under the name it shall have"
        )
    for name, said in files.items():
        content = parted(path, sources[name])[0] if name == path.name else sources[name]
        if sha256(content).hexdigest() != said:
            raise ArtifactError(
                f"{path.parent / name} is not what was written together with {path.name}: it was edited, damaged, or "
                "belongs to another export; export again"
            )
