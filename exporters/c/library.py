"""A network of C in this process: the compiled functions, and where in the struct everything lies."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError, EngineError
from psu_deploy.exporters.c.compiler import compiled
from psu_deploy.exporters.c.header import CHeader
from psu_deploy.exporters.c.sources import fixed_text, names_of

Array = np.ndarray[Any, Any]

_WHAT = ("S", "V", "R", "margin")
"""Of a neuron in the trace."""

REFUSED = -2
"""What `step` returns where the input is not finite."""

_FACTS = ("input_shape", "outputs", "latency", "horizon")

_FLOAT = 4
"""Bytes."""

_COUNTER = "step"
_SAMPLE = "sample"
_WEIGHTS = "weights"


class Library:
    """One build of a network, as it is deployed or with a trace.

    Args:
        path: of `net.c`, for messages.
        loaded: the shared library.
        header: what the sources say of themselves.
        numbers: of `net_weights.bin`; None = they were compiled.
        traced: which of the two builds.

    Attributes:
        bytes: of the struct.
        run: `(states, steps, batch, x, y)` -> steps done, or -1 - t where a number of step t is not finite.
        step: `(states, batch, x, y)` -> 1, -1 where a number is not finite after it, or `REFUSED` where x is not.
    """

    def __init__(
        self, path: Path, loaded: ctypes.CDLL, header: CHeader, numbers: Array | None, *, traced: bool
    ) -> None:
        begin = "glue_traced_" if traced else "glue_"
        names = _members(header, traced)
        bytes_, *facts, mapped = (ctypes.c_int64 * 6).in_dll(loaded, f"{begin}layout")
        layout = list((ctypes.c_int64 * (6 + 2 * len(names))).in_dll(loaded, f"{begin}layout"))[6:]
        found = dict(zip(names, zip(layout[::2], layout[1::2], strict=True), strict=True))
        _check(path, header, facts, {name: size for name, (_, size) in found.items()})
        if numbers is not None and numbers.size != mapped:
            raise ArtifactError(
                f"{path} reads {mapped:,} numbers, {names_of(path, 'bin')[2]} holds {numbers.size:,}; export again"
            )
        self.bytes, self._header, self._numbers = bytes_, header, numbers
        self._offsets = {name: offset for name, (offset, _) in found.items()}
        self.run = loaded[f"{begin}run"]
        self.run.restype = ctypes.c_int64
        self.run.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self.step = loaded[f"{begin}step"]
        self.step.restype = ctypes.c_int64
        self.step.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)

    def states(self, batch: int) -> States:
        """As many structs as samples, after a reset."""
        memory = np.zeros((batch, self.bytes), np.uint8)
        return States(memory, self._header, self._offsets, self._numbers)


class States:
    """The structs of a batch, seen as arrays (B, *shape)."""

    def __init__(self, memory: Array, header: CHeader, offsets: Mapping[str, int], numbers: Array | None) -> None:
        self._memory, self._offsets, self._numbers = memory, offsets, numbers
        self.address = memory.ctypes.data
        self.tensors = {s.name: self._view(s.member, s.shape, "float32") for s in header.states}
        self.counter = self._view(_COUNTER, (), "int64") if header.counts else None
        if header.numbered:
            self._view(_SAMPLE, (), "int64")[...] = np.arange(len(memory))
        if numbers is not None:
            self._view(_WEIGHTS, (), "uintp")[...] = numbers.ctypes.data
        self._header = header

    def neuron(self, layer: str, what: str) -> Array:
        """S, V, R or margin of a neuron layer in the last step."""
        shape = next(entry.shape for entry in self._header.layers if entry.name == layer)
        return self._view(f"trace.{self._header.neurons[layer]}_{what}", shape, "float32")

    def _view(self, member: str, shape: tuple[int, ...], dtype: str) -> Array:
        width = np.dtype(dtype).itemsize
        own = tuple(width * prod(shape[axis + 1 :]) for axis in range(len(shape)))
        batch, size = self._memory.shape
        return np.ndarray((batch, *shape), dtype, self._memory, self._offsets[member], (size, *own))


def open_library(
    path: Path, sources: Mapping[str, bytes], header: CHeader, flags: str | None
) -> tuple[Library, Library]:
    """Compile sources that were checked, and open them: as deployed, and with a trace.

    Raises:
        MissingExtraError: if there is no compiler.
        EngineError: if it refuses them, or the system what it made.
    """
    network, included, weights = names_of(path, header.weights)
    traced = f'#define {header.prefix.upper()}_TRACE\n#include "psu_glue.c"\n'
    glue = {"psu_glue.c": _glue(network, header).encode(), "psu_traced.c": traced.encode()}
    units = (*glue, *([weights] if header.weights == "c" else []))
    content = sources[weights]
    whole = content[: len(content) // _FLOAT * _FLOAT]  # too few numbers are told from enough of them below
    numbers = np.frombuffer(whole, "<f4").astype("f4") if header.weights == "bin" else None
    with compiled({name: sources[name] for name in (network, included, *units[2:])} | glue, units, flags) as built:
        try:
            loaded = ctypes.CDLL(str(built))
        except OSError as error:
            raise EngineError(f"the system does not load what was compiled of {path}: {error}") from error
        return Library(path, loaded, header, numbers, traced=False), Library(path, loaded, header, numbers, traced=True)


def _glue(network: str, header: CHeader) -> str:
    """What Python calls, written for the members of this struct."""
    text = fixed_text("glue.c", header.prefix).replace("@NETWORK@", network)
    state = f"{header.prefix}_state"
    plain, traced = (
        "".join(f"\n    GLUE_MEMBER({name})," for name in _members(header, which)) for which in (False, True)
    )
    both = f"\n#ifdef {header.prefix.upper()}_TRACE{traced}\n#else{plain}\n#endif\n"
    first = f"offsetof({state}, {header.states[0].member})" if header.states else f"offsetof({state}, work)"
    numbers = sum(prod(entry.shape) for entry in header.states)
    return text.replace("/*MEMBERS*/", both).replace("@FIRST@", first).replace("@NUMBERS@", str(numbers))


def _check(path: Path, header: CHeader, facts: list[int], sizes: Mapping[str, int]) -> None:
    """Raise `ArtifactError` unless sources are what they say: what is wrong there would be read beyond its end."""
    outputs = sum(prod(end.shape) for end in header.outputs)
    said = [prod(header.input_shape), outputs, header.latency, header.horizon or 0]
    wrong = [name for name, one, other in zip(_FACTS, facts, said, strict=True) if one != other]
    shapes = {entry.member: entry.shape for entry in header.states}
    layers = {entry.name: entry.shape for entry in header.layers}
    for layer, ident in header.neurons.items():
        shapes |= {f"trace.{ident}_{what}": layers.get(layer, ()) for what in _WHAT}
    wrong += [name for name, size in sizes.items() if name in shapes and size != _FLOAT * prod(shapes[name])]
    if wrong:
        about = ", ".join(map(repr, wrong[:4]))
        raise ArtifactError(f"{path}: what its metadata say of {about} is not what is compiled; export it again")


def _members(header: CHeader, traced: bool) -> list[str]:
    there = {_COUNTER: header.counts, _SAMPLE: header.numbered, _WEIGHTS: header.weights == "bin"}
    found = [name for name, is_there in there.items() if is_there]
    found += [entry.member for entry in header.states]
    if traced:
        found += [f"trace.{ident}_{what}" for ident in header.neurons.values() for what in _WHAT]
    return found
