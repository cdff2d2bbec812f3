"""Runs an exported step graph in onnxruntime, one step at a time.

State lives in two sets of buffers. One step reads the first and writes the second, the next does the reverse;
both bindings are made once, at reset, so no state passes through Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort

from psu_deploy.exporters.onnx.buffers import TURNS, Block, block, suspicious
from psu_deploy.exporters.onnx.contents import contents_of
from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.file import open_session, parse_model, read_bytes, read_decisions
from psu_deploy.exporters.onnx.metadata import OnnxHeader, header_of
from psu_deploy.exporters.onnx.structure import structure_of
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import StateMachine, StateTensor, Trace
from psu_deploy.machine.graph import check_state
from psu_deploy.machine.inputs import check_finite, check_horizon, numpy_state
from psu_deploy.machine.overflow import check_trace
from psu_deploy.machine.schedule import INPUT, OUTPUT, STEP
from psu_deploy.machine.trace import sole
from psu_deploy.runtime import Structure
from psu_deploy.runtime.contents import Contents
from psu_deploy.runtime.engine_runner import EngineRunner

_FLOAT = np.dtype(TARGET.dtype)


class _Direction(NamedTuple):
    """One direction of a step: what is bound, the state that it reads, and what it writes."""

    binding: Any
    state: dict[str, np.ndarray[Any, Any]]
    written: Block


class OnnxRunner(EngineRunner):
    """Steps an exported network in onnxruntime.

    Args:
        path: file written by `psu_deploy.export(..., target="onnx")`.
        threads: of onnxruntime; None = its own choice. One is best for small networks at batch 1.

    Raises:
        ArtifactError: if the file is missing, damaged or not ours.

    >>> runner = OnnxRunner("net.onnx")              # doctest: +SKIP
    >>> runner.reset(batch_size=1)                   # doctest: +SKIP
    >>> y = runner.step(x_t)                         # doctest: +SKIP
    """

    called = "an ONNX runner"

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        source = Path(path)
        self._threads = threads
        self._content = read_bytes(source)  # what runs is what was checked, whatever becomes of the file
        model = parse_model(source, self._content)
        self._header = header_of(source, model)
        super().__init__(source, self._header)
        self._decisions = read_decisions(source, model, self._header.neurons)
        self._session = open_session(source, self._content, threads)
        self._spec = {s.name: StateTensor(s.shape, s.dtype, s.batched) for s in self._header.states}
        self._one_output = self._header.output is not None
        self._bound: int | None = None

    @property
    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of the current state, name -> array (B, *shape).

        Raises:
            StateError: before the first reset, or if a state has overflowed.
        """
        with self._life.alone():
            self._life.check()
            self._look()
            return {name: value.copy() for name, value in self._front().state.items()}

    def step(self, x: Any) -> Any:
        """Advance by one step. The output and most of the state are looked at, larger state every 16 steps.

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
            np.copyto(self._x, x)
            if suspicious(self._flat_x):
                check_finite(x)
            if self._last is not None and life.steps >= self._last:
                check_horizon(life.steps, self._last)
            given = self._one_step()
            return given[OUTPUT].copy() if self._one_output else {name: y.copy() for name, y in given.items()}

    @property
    def contents(self) -> Contents:
        """Neuron layers, and the operators around them."""
        return contents_of(parse_model(self._path, self._content), self._header, self._decisions)

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's graph and constants stand against what exporting a machine writes. Nothing runs."""
        return structure_of(parse_model(self._path, self._content), self._decisions, machine)

    def _restart(self, batch: int, state: Mapping[str, Any] | None) -> None:
        if self._life.batch is not None:
            self._look()  # what is left behind was not looked at as a whole, and its answers were given
        super()._restart(batch, state)

    def _start(self, batch: int, state: Mapping[str, Any] | None) -> int:
        if batch != self._bound:
            self._bind(batch)
        self._turn = 0
        for name, value in self._front().state.items():
            value[...] = 0 if state is None else state[name]
        return int(self._front().state[STEP]) if STEP in self._spec else 0

    def _advance(self, x: np.ndarray[Any, Any]) -> Any:
        rows = {name: np.empty((len(x), *y.shape), y.dtype) for name, y in self._front().written.outputs.items()}
        for t, x_t in enumerate(x):
            np.copyto(self._x, x_t)
            for name, y in self._one_step().items():
                rows[name][t] = y
        self._look()
        return sole(rows)

    def _trace(self, x: np.ndarray[Any, Any], state: Mapping[str, Any] | None) -> Trace:
        """The same graph, with the spikes, V and R of every neuron layer as further outputs."""
        batch = x.shape[1]
        now = {name: np.zeros(_shape(spec, batch), spec.dtype) for name, spec in self._spec.items()} | dict(state or {})
        check_horizon(int(now.get(STEP, 0)), self._last, len(x))
        session, names = self._tracing_session()
        rows = []
        for x_t in x:
            results = dict(zip(names, session.run(names, {"x": x_t, **now}), strict=True))
            rows.append({"x": x_t, **now, **results})
            now = {s.name: results[s.output] for s in self._header.states}
        trace = _stack(rows, self._header, self._decisions, now)
        check_trace(trace)
        return trace

    def _one_step(self) -> dict[str, np.ndarray[Any, Any]]:
        """One step of what lies in the input's buffer; the result is overwritten by the step after the next."""
        life, direction = self._life, self._buffers[self._turn]
        written = direction.written
        try:
            self._session.run_with_iobinding(direction.binding)
            self._turn = 1 - self._turn
            life.steps += 1
            if suspicious(written.always):
                self._look()
            if written.in_turn and suspicious(written.in_turn[life.steps % TURNS]):
                self._look()
        except BaseException:
            life.break_off()
            raise
        return written.outputs

    def _look(self) -> None:
        """Raise `StateError`, and need a reset, if what the last step wrote is not finite."""
        found = self._buffers[1 - self._turn].written.overflow() if self._life.steps > self._life.began else None
        if found is not None:
            name, at_once = found
            self._life.overflowed(name, None if at_once else max(self._life.began, self._life.steps - TURNS) + 1)

    def _given(self, state: Mapping[str, Any] | None, batch: int) -> dict[str, np.ndarray[Any, Any]] | None:
        if state is None:
            return None
        check_state(state, self._spec, batch)
        return {name: numpy_state(name, state[name], spec.dtype) for name, spec in self._spec.items()}

    def _front(self) -> _Direction:
        """The direction that reads the current state."""
        return self._buffers[self._turn]

    def _bind(self, batch: int) -> None:
        self._bound = None
        self._x = np.zeros((batch, *self._features), TARGET.dtype)
        self._flat_x = self._x.reshape(-1)
        shapes = {end.name: end.shape for end in self._header.ends}
        blocks = [block(batch, shapes, self._spec) for _ in range(2)]
        # onnxruntime shares the memory of numpy arrays on the CPU; _values keeps its handles alive.
        x = ort.OrtValue.ortvalue_from_numpy(self._x)
        ys = [{n: ort.OrtValue.ortvalue_from_numpy(y) for n, y in b.outputs.items()} for b in blocks]
        values = [{n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in b.state.items()} for b in blocks]
        self._values = (x, ys, values)
        self._buffers = [
            _Direction(
                self._binding(x, ys[1 - turn], values[turn], values[1 - turn]),
                blocks[turn].state,
                blocks[1 - turn],
            )
            for turn in range(2)
        ]
        self._bound = batch

    def _binding(self, x: Any, ys: dict[str, Any], read: dict[str, Any], write: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, x)
        for end in self._header.ends:
            binding.bind_ortvalue_output(end.value, ys[end.name])
        for state in self._header.states:
            binding.bind_ortvalue_input(state.input, read[state.name])
            binding.bind_ortvalue_output(state.output, write[state.name])
        return binding

    def _tracing_session(self) -> tuple[Any, list[str]]:
        model = parse_model(self._path, self._content)
        outputs = [output.name for output in model.graph.output]
        inputs = [i.name for i in model.graph.input]
        neurons = self._header.neurons.values()
        wanted = [name for neuron in neurons for name in (neuron.spikes, neuron.potential, neuron.reset) if name]
        wanted += [decision.value for decision in self._decisions.values()]
        for name in dict.fromkeys(wanted):
            if name not in (*outputs, *inputs):
                outputs.append(name)
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        return open_session(self._path, model.SerializeToString(), self._threads), outputs


def load(path: str | Path, *, threads: int | None = None) -> OnnxRunner:
    """A runner for an exported file; see `OnnxRunner`."""
    return OnnxRunner(path, threads=threads)


def _shape(spec: StateTensor, batch: int) -> tuple[int, ...]:
    return (batch, *spec.shape) if spec.batched else ()


def _stack(
    rows: list[dict[str, Any]],
    header: OnnxHeader,
    decisions: Mapping[str, Decision],
    state: dict[str, Any],
) -> Trace:
    """Rows of named values, one per step, as a trace; margins are of what the graph itself compares."""

    def column(name: str) -> np.ndarray[Any, Any]:
        return np.stack([row[name] for row in rows])

    trace = Trace(sole({end.name: column(end.value) for end in header.ends}), state=state)
    for layer, names in header.neurons.items():
        trace.spikes[layer] = column(names.spikes)
        trace.potential[layer] = potential = column(names.potential)
        trace.reset[layer] = np.zeros_like(potential) if names.reset is None else column(names.reset)
        trace.margin[layer] = column(decisions[layer].value) - np.float32(decisions[layer].threshold)
    return trace
