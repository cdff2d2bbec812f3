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
from psu_deploy.exporters.onnx.file import open_session
from psu_deploy.exporters.onnx.graph_runner import GraphRunner, OnnxFile, open_file
from psu_deploy.exporters.onnx.sequence_runner import SequenceRunner
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import Trace
from psu_deploy.machine.inputs import check_finite, check_horizon
from psu_deploy.machine.overflow import check_trace
from psu_deploy.machine.schedule import INPUT, OUTPUT, STEP
from psu_deploy.machine.trace import sole

_FLOAT = np.dtype(TARGET.dtype)


class _Direction(NamedTuple):
    """One direction of a step: what is bound, the state that it reads, and what it writes."""

    binding: Any
    state: dict[str, np.ndarray[Any, Any]]
    written: Block


class OnnxRunner(GraphRunner):
    """Steps an exported network in onnxruntime.

    Args:
        file: path of a file written by `psu_deploy.export(..., target="onnx")`.
        threads: of onnxruntime; None = its own choice. One is best for small networks at batch 1.

    Raises:
        ArtifactError: if the file is missing, damaged, not ours, or holds a whole sequence.

    >>> runner = OnnxRunner("net.onnx")              # doctest: +SKIP
    >>> runner.reset(batch_size=1)                   # doctest: +SKIP
    >>> y = runner.step(x_t)                         # doctest: +SKIP
    """

    def __init__(self, file: str | Path | OnnxFile, *, threads: int | None = None) -> None:
        super().__init__(file, threads=threads)
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
        now = self._zeros(batch) | dict(state or {})
        check_horizon(int(now.get(STEP, 0)), self._last, len(x))
        session, names = self._tracing_session()
        rows = []
        for x_t in x:
            results = dict(zip(names, session.run(names, {"x": x_t, **now}), strict=True))
            rows.append({"x": x_t, **now, **results})
            now = {s.name: results[s.output] for s in self._header.states}
        trace = self._as_trace(lambda name: np.stack([row[name] for row in rows]), now)
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
        model = self._file.model()
        outputs = [output.name for output in model.graph.output]
        inputs = [i.name for i in model.graph.input]
        for name in self._watched():
            if name not in (*outputs, *inputs):
                outputs.append(name)
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        return open_session(self._path, model.SerializeToString(), self._threads), outputs


def load(path: str | Path, *, threads: int | None = None) -> OnnxRunner | SequenceRunner:
    """A runner for an exported file, of one step or of a sequence; see `OnnxRunner`."""
    file = open_file(path)
    return SequenceRunner(file, threads=threads) if file.header.sequence else OnnxRunner(file, threads=threads)
