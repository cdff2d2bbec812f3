"""Runs exported C, compiled by the system's compiler, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from psu_deploy.exporters.c.header import CHeader, check_files, header_of
from psu_deploy.exporters.c.library import REFUSED, Library, States, open_library
from psu_deploy.exporters.c.memory import memory_of
from psu_deploy.exporters.c.reading import read_source
from psu_deploy.exporters.c.sources import names_of
from psu_deploy.exporters.c.structure import structure_of
from psu_deploy.exporters.c.together import settled
from psu_deploy.machine import StateMachine, StateTensor, Trace
from psu_deploy.machine.graph import check_state
from psu_deploy.machine.inputs import check_finite, check_horizon, numpy_state
from psu_deploy.machine.overflow import THE_OUTPUT, check_trace, first_overflow
from psu_deploy.machine.schedule import INPUT, STEP
from psu_deploy.machine.trace import sole
from psu_deploy.runtime import Structure
from psu_deploy.runtime.contents import Contents, LayerLine, Tensor
from psu_deploy.runtime.engine_runner import EngineRunner

Array = np.ndarray[Any, Any]

_FLOAT = np.dtype("float32")

_AT_ONCE = 256
"""Steps of one sample between two looks at what the user wants: Ctrl-C is heard between calls."""


class CRunner(EngineRunner):
    """Steps an exported network, compiled to a shared library. A sample is a struct of its own.

    What is opened is compiled, and what is compiled is run: a C file is a program. Open none that you would not run.

    Args:
        path: `net.c`, as written by `psu_deploy.export(..., target="c")`; the other files lie beside it.
        flags: for the compiler, instead of -O3 and -march=native.
        compiled: compile at once; False = when it first runs, so that files can be looked into that nobody trusts.

    Raises:
        ArtifactError: if a file is missing, damaged, edited or not ours.
        MissingExtraError: if there is no C compiler.
        EngineError: if the compiler refuses the sources.

    >>> runner = CRunner("net.c")                    # doctest: +SKIP
    >>> runner.reset(batch_size=1)                   # doctest: +SKIP
    >>> y = runner.step(x_t)                         # doctest: +SKIP
    """

    called = "a C runner"

    def __init__(self, path: str | Path, *, flags: str | None = None, compiled: bool = True) -> None:
        source = Path(path)
        self._header, self._sources = settled(source, lambda: _read(source))
        super().__init__(source, self._header)
        self._flags = flags
        self._spec = {s.name: StateTensor(s.shape, "float32", batched=True) for s in self._header.states}
        if self._header.counts:
            self._spec = {STEP: StateTensor((), "int64", batched=False), **self._spec}
        self._numbers = sum(prod(end.shape) for end in self._header.outputs)
        self._one_output = len(self._header.outputs) == 1
        if compiled:
            _ = self._libraries

    @property
    def engine(self) -> str:
        return "C99"

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the current state, name -> array (B, *shape).

        Raises:
            StateError: before the first reset, or if a state has overflowed.
        """
        with self._life.alone():
            self._life.check()
            return _state_of(self._states)

    def step(self, x: Any) -> Any:
        """Advance by one step. The input, the state and the output are looked at in every step.

        Args:
            x: (B, *input_shape), float32 numpy.

        Returns:
            Output, (B, *features); name -> output where there are several.

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, if B is not that of the last reset, or if a state or the output has
                overflowed; then there must be a reset.
            HorizonError: no such step.
        """
        life = self._life
        with life.alone():
            # One test for the good case: Python's share of a step is what a small network feels.
            if type(x) is not np.ndarray or x.shape != life.shape or x.dtype is not _FLOAT:
                self._check_step(x)
            if self._last is not None and life.steps >= self._last:
                check_finite(x)
                check_horizon(life.steps, self._last)
            np.copyto(self._x, x)
            self._moved(self._one_step(*self._arguments), 1, x)
            y = self._y.copy()
            return y if self._one_output else self._given_out(y)

    @property
    def contents(self) -> Contents:
        """Every layer, and the members of the struct."""
        header = self._header
        return Contents(
            inputs=(Tensor(INPUT, header.input_shape),),
            outputs=tuple(Tensor(end.name, end.shape) for end in header.outputs),
            layers=tuple(LayerLine(layer.name, layer.kind, layer.shape) for layer in header.layers),
            state=tuple(Tensor(name, spec.shape, spec.dtype) for name, spec in self._spec.items()),
        )

    @property
    def memory(self) -> dict[str, int]:
        """State, room to work in and numbers, in bytes."""
        return memory_of(self._sources[names_of(self._path, "c")[1]])

    def structure(self, machine: StateMachine) -> Structure:
        """How the sources stand against those that exporting a machine writes, line for line. Nothing runs."""
        return structure_of(self._path, self._sources, self._header, machine)

    @cached_property
    def _libraries(self) -> tuple[Library, Library]:
        """As deployed, and with a trace."""
        return open_library(self._path, self._sources, self._header, self._flags)

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        plain, _ = self._libraries
        self._states, self._plain = _started(plain, batch, state), plain
        self._x = np.zeros((batch, *self._features), _FLOAT)
        end = self._header.outputs[0].shape if self._one_output else (self._numbers,)
        self._y = np.zeros((batch, *end), _FLOAT)
        self._arguments = (self._states.address, batch, self._x.ctypes.data, self._y.ctypes.data)
        counter = self._states.counter
        return 0 if counter is None else int(counter[0])

    def _advance(self, x: Array) -> Any:
        x = np.ascontiguousarray(x)
        y = np.empty((*x.shape[:2], self._numbers), _FLOAT)
        steps = max(1, _AT_ONCE // x.shape[1])
        for start in range(0, len(x), steps):
            part, out = x[start : start + steps], y[start : start + steps]
            address = self._states.address
            done = self._plain.run(address, len(part), x.shape[1], part.ctypes.data, out.ctypes.data)
            self._moved(done, len(part), part)
        return self._given_out(y)

    def _one_step(self, *arguments: int) -> int:
        try:
            return int(self._plain.step(*arguments))
        except BaseException:  # Ctrl-C, heard between the last instruction of C and the first one of Python
            self._life.break_off()
            raise

    def _moved(self, done: int, steps: int, x: Array) -> None:
        """Count what was done; where a number is not finite any more, there must be a reset."""
        if done == steps:
            self._life.steps += steps
            return
        if done == REFUSED and steps == 1:
            check_finite(x)
        self._life.steps -= done  # the step that went wrong among them: done is -1 - t
        self._life.overflowed(first_overflow(self._states.tensors.items()) or THE_OUTPUT)

    def _trace(self, x: Array, state: Mapping[str, Any] | None) -> Trace:
        """The same sources compiled with a trace, which keeps what every neuron did in the last step."""
        begun = 0 if state is None else int(state.get(STEP, 0))
        check_horizon(begun, self._last, len(x))
        _, library = self._libraries
        states = _started(library, x.shape[1], state)
        x = np.ascontiguousarray(x)
        y = np.empty((*x.shape[:2], self._numbers), _FLOAT)
        kept = {(layer, what): states.neuron(layer, what) for layer in self._header.neurons for what in _KEPT}
        seen = {key: np.empty((len(x), *value.shape), _FLOAT) for key, value in kept.items()}
        for t, (x_t, y_t) in enumerate(zip(x, y, strict=True)):
            library.run(states.address, 1, x.shape[1], x_t.ctypes.data, y_t.ctypes.data)
            for key, value in kept.items():
                seen[key][t] = value
        trace = Trace(self._given_out(y), state=_state_of(states))
        for (layer, what), values in seen.items():
            getattr(trace, _KEPT[what])[layer] = values
        check_trace(trace)
        return trace

    def _given(self, state: Mapping[str, Any] | None, batch: int) -> dict[str, Array] | None:
        if state is None:
            return None
        check_state(state, self._spec, batch)
        return {name: numpy_state(name, state[name], spec.dtype) for name, spec in self._spec.items()}

    def _given_out(self, y: Array) -> Any:
        """Numbers as they lie in y, as a caller gets them: by name, each with its features."""
        front = y.shape[:-1]
        if self._one_output:
            return y.reshape(*front, *self._header.outputs[0].shape)
        found, start = {}, 0
        for end in self._header.outputs:
            stop = start + prod(end.shape)
            found[end.name] = y[..., start:stop].reshape(*front, *end.shape)
            start = stop
        return sole(found)


_KEPT = {"S": "spikes", "V": "potential", "R": "reset", "margin": "margin"}
"""What of a neuron is kept, and where it stands in a trace."""


def _read(path: Path) -> tuple[CHeader, dict[str, bytes]]:
    """What files say of themselves, and name -> content of those that are compiled or mapped, checked."""
    network = read_source(path)
    header = header_of(path, network)
    _, *others = names_of(path, header.weights)
    sources = {path.name: network, **{name: read_source(path.parent / name) for name in others}}
    check_files(path, header.files, sources)
    return header, sources


def _started(library: Library, batch: int, state: Mapping[str, Any] | None) -> States:
    states = library.states(batch)
    if state is not None:
        for name, value in states.tensors.items():
            value[...] = state[name]
        if states.counter is not None:
            states.counter[...] = state[STEP]
    return states


def _state_of(states: States) -> dict[str, Array]:
    found = {name: value.copy() for name, value in states.tensors.items()}
    counter = states.counter
    return found if counter is None else {STEP: counter[0].copy(), **found}
