"""Runs an integer network of C, compiled by the system's compiler, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psu_deploy.exporters.c.header import check_files
from psu_deploy.exporters.c.integers.header import IntegerCHeader, read
from psu_deploy.exporters.c.integers.library import IntegerLibrary, open_library
from psu_deploy.exporters.c.integers.structure import structure_of
from psu_deploy.exporters.c.memory import memory_of
from psu_deploy.exporters.c.reading import read_source
from psu_deploy.exporters.c.sources import names_of
from psu_deploy.exporters.c.together import settled
from psu_deploy.exporters.integers.input_code import encode
from psu_deploy.exporters.integers.network import IntegerNetwork
from psu_deploy.exporters.integers.reference import Reference
from psu_deploy.exporters.integers.runner import IntegerRunner, Sent
from psu_deploy.machine import StateMachine
from psu_deploy.runtime import Structure

_AT_ONCE = 256
"""Steps between two looks at what the user wants: Ctrl-C is heard between calls."""


class IntegerCRunner(IntegerRunner):
    """Steps an exported network of whole numbers, compiled to a shared library. A sample is a struct of its own.

    What is opened is compiled, and what is compiled is run: a C file is a program. Open none that you would not run.

    Args:
        path: `net.c`, as written by `psu_deploy.export(..., target="c", numerics="int8")`; the others lie beside it.
        flags: for the compiler, instead of -O3 and -march=native; no number depends on them.
        compiled: compile at once; False = when it first runs, so that files can be looked into that nobody trusts.

    Raises:
        ArtifactError: if a file is damaged, edited or not ours.
        MissingExtraError: if there is no C compiler.
        EngineError: if the compiler refuses the sources.
    """

    called = "a C runner"
    stateless = "the integers of C start from silence; run the sequence from its start instead"

    def __init__(self, path: str | Path, *, flags: str | None = None, compiled: bool = True) -> None:
        source = Path(path)
        self._sources, network, self._said = settled(source, lambda: _read(source))
        super().__init__(source, self._said)
        self._hold(network, self._said, in_numpy=False)
        self._flags = flags
        if compiled:
            _ = self._libraries

    @property
    def name(self) -> str:
        """What executes it, for reports."""
        return "integer reference" if self._in_numpy else "C, whole numbers"

    @property
    def engine(self) -> str:
        """What the file is made to run in."""
        return "C"

    @property
    def memory(self) -> dict[str, int]:
        """State, room to work in and numbers, in bytes."""
        return memory_of(self._sources[names_of(self._path, "c")[1]])

    def structure(self, machine: StateMachine) -> Structure:
        """How the numbers and the sources stand against those that exporting a machine gives. Nothing runs."""
        return structure_of(self._path, self._sources, self._said, machine)

    def repeats_itself(self, network: IntegerNetwork, x: NDArray[Any]) -> bool:
        """Whether every layer sends what a network of whole numbers sends, for an input (T, B, *features)."""
        (plain, _), numbers = self._libraries, encode(network, x)
        expected = Reference(network, x.shape[1]).advance(numbers)
        found = self._with_trace(numbers, tuple(range(len(network.layers))))
        same = all(np.array_equal(found.layers[index], sent) for index, sent in enumerate(expected))
        return same and np.array_equal(plain.run(plain.states(x.shape[1]), numbers), expected[-1])

    @cached_property
    def _libraries(self) -> tuple[IntegerLibrary, IntegerLibrary]:
        """As deployed, and with a trace."""
        return open_library(self._path, self._sources, self._network, self._said, self._flags)

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        if not self._in_numpy:
            self._plain, _ = self._libraries
            self._states = self._plain.states(batch)
        return super()._start(batch, state)

    def _in_engine(self, numbers: NDArray[np.int64], record: tuple[int, ...]) -> Sent:
        if record:
            return self._with_trace(numbers, record)
        rows = [self._plain.run(self._states, numbers[t : t + _AT_ONCE]) for t in range(0, len(numbers), _AT_ONCE)]
        return Sent(np.concatenate(rows), {})

    def _with_trace(self, numbers: NDArray[np.int64], record: tuple[int, ...]) -> Sent:
        """A whole sequence in the build that keeps what every layer sent."""
        _, library = self._libraries
        states = library.states(numbers.shape[1])
        rows, seen = [], {index: [] for index in record}  # type: ignore[var-annotated]
        for t in range(len(numbers)):
            rows.append(library.run(states, numbers[t : t + 1]))
            for index in record:
                seen[index].append(library.sent(states, index))
        return Sent(np.concatenate(rows), {index: np.stack(values) for index, values in seen.items()})


def _read(path: Path) -> tuple[dict[str, bytes], IntegerNetwork, IntegerCHeader]:
    """Name -> content of the files, and what the metadata hold, checked."""
    sources = {name: read_source(path.parent / name) for name in names_of(path, "c")}
    network, said = read(path, sources[path.name])
    check_files(path, said.files, sources)
    return sources, network, said
