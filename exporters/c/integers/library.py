"""An integer network of C in this process: the compiled functions, and where what the layers sent lies."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.errors import ArtifactError, EngineError
from psu_deploy.exporters.c.compiler import compiled
from psu_deploy.exporters.c.integers.header import IntegerCHeader
from psu_deploy.exporters.c.integers.sources import fixed_text
from psu_deploy.exporters.c.sources import names_of
from psu_deploy.exporters.integers.network import IntegerNetwork

_FACTS = ("input_shape", "output_shape", "low", "high", "horizon")

_NUMBER = 4
"""Bytes."""


class IntegerLibrary:
    """One build of a network, as it is deployed or with a trace.

    Args:
        path: of `net.c`, for messages.
        loaded: the shared library.
        network: what is in it.
        trace: what the layers are called; none = as it is deployed.
    """

    def __init__(self, path: Path, loaded: ctypes.CDLL, network: IntegerNetwork, trace: tuple[str, ...]) -> None:
        begin = "glue_traced_" if trace else "glue_"
        count = 1 + len(_FACTS)
        self._bytes, *facts = (ctypes.c_int64 * count).in_dll(loaded, f"{begin}layout")
        members = list((ctypes.c_int64 * (count + 2 * len(trace))).in_dll(loaded, f"{begin}layout"))[count:]
        self._offsets = members[::2]
        _check(path, network, facts, dict(zip(trace, members[1::2], strict=True)))
        self._network = network
        self._run = loaded[f"{begin}run"]
        self._run.restype = None
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)

    def states(self, batch: int) -> NDArray[np.uint8]:
        """As many structs as samples, after a reset."""
        return np.zeros((batch, self._bytes), np.uint8)

    def run(self, states: NDArray[np.uint8], x: NDArray[Any]) -> NDArray[np.int32]:
        """Some steps on: whole numbers (T, B, *features) -> (T, B, *shape)."""
        given = np.ascontiguousarray(x, np.int16)
        y = np.empty((*x.shape[:2], *self._network.layers[-1].shape), np.int32)
        self._run(states.ctypes.data, len(x), x.shape[1], given.ctypes.data, y.ctypes.data)
        return y

    def sent(self, states: NDArray[np.uint8], index: int) -> NDArray[np.int32]:
        """What a layer sent in the last step, (B, *shape); with a trace only."""
        shape, start = self._network.layers[index].shape, self._offsets[index]
        return states[:, start : start + _NUMBER * prod(shape)].copy().view(np.int32).reshape(-1, *shape)


def open_library(
    path: Path, sources: Mapping[str, bytes], network: IntegerNetwork, header: IntegerCHeader, flags: str | None
) -> tuple[IntegerLibrary, IntegerLibrary]:
    """Compile sources that were checked, and open them: as deployed, and with a trace.

    Raises:
        MissingExtraError: if there is no compiler.
        EngineError: if it refuses them, or the system what it made.
    """
    name, _, weights = names_of(path, "c")
    upper = header.prefix.upper()
    members = "".join(f"\n    GLUE_MEMBER({name})," for name in header.trace)
    glue = fixed_text("glue.c", header.prefix).replace("@NETWORK@", name)
    glue = glue.replace("/*MEMBERS*/", f"\n#ifdef {upper}_TRACE{members}\n#endif\n")
    traced = f'#define {upper}_TRACE\n#include "psu_glue.c"\n'
    ours = {"psu_glue.c": glue.encode(), "psu_traced.c": traced.encode()}
    with compiled({**sources, **ours}, (*ours, weights), flags) as built:
        try:
            loaded = ctypes.CDLL(str(built))
        except OSError as error:
            raise EngineError(f"the system does not load what was compiled of {path}: {error}") from error
        return IntegerLibrary(path, loaded, network, ()), IntegerLibrary(path, loaded, network, header.trace)


def _check(path: Path, network: IntegerNetwork, facts: list[int], sizes: Mapping[str, int]) -> None:
    """Raise `ArtifactError` unless sources are what they say: what is wrong there would be read beyond its end."""
    ends = [prod(network.input_shape), prod(network.layers[-1].shape)]
    said = [*ends, network.code.low, network.code.high, network.horizon or 0]
    wrong = [name for name, one, other in zip(_FACTS, facts, said, strict=True) if one != other]
    layers = zip(sizes.items(), network.layers, strict=False)  # no sizes where there is no trace
    wrong += [name for (name, size), layer in layers if size != _NUMBER * prod(layer.shape)]
    if wrong:
        about = ", ".join(map(repr, wrong[:4]))
        raise ArtifactError(f"{path}: what its metadata say of {about} is not what is compiled; export it again")
