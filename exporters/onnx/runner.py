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
import torch

from psu_deploy.errors import InputError
from psu_deploy.exporters.onnx.buffers import TURNS, Block, block, suspicious
from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.file import artifact_of, open_session, parse_model, read_bytes, read_decisions
from psu_deploy.exporters.onnx.metadata import read_metadata
from psu_deploy.exporters.onnx.structure import structure_of
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import StateMachine, StateTensor, Trace
from psu_deploy.machine.graph import check_state
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_finite,
    check_horizon,
    check_sequence,
    check_static,
    check_step,
    numpy_state,
)
from psu_deploy.machine.overflow import check_trace
from psu_deploy.machine.schedule import STEP
from psu_deploy.runtime import Artifact, Structure
from psu_deploy.runtime.lifecycle import Lifecycle, Unique

_DTYPES = (TARGET.dtype,)
_FLOAT = np.dtype(TARGET.dtype)
_NUMPY_ONLY = "an ONNX runner takes numpy; convert with x.numpy()"


class _Direction(NamedTuple):
    """One direction of a step: what is bound, the state that it reads, and what it writes."""

    binding: Any
    state: dict[str, np.ndarray[Any, Any]]
    written: Block


class OnnxRunner(Unique):
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

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self._path = Path(path)
        self._threads = threads
        self._content = read_bytes(self._path)  # what runs is what was checked, whatever becomes of the file
        model = parse_model(self._path, self._content)
        self._metadata = read_metadata(self._path, model)
        self._decisions = read_decisions(self._path, model, self._metadata)
        self._artifact = artifact_of(self._path, self._metadata)
        self._session = open_session(self._path, self._content, threads)
        self._features = tuple(self._metadata["input"]["shape"])
        self._spec = {
            s["name"]: StateTensor(tuple(s["shape"]), s["dtype"], s["batched"]) for s in self._metadata["states"]
        }
        self._last = self._artifact.horizon
        self._life = Lifecycle()
        self._bound: int | None = None

    @property
    def artifact(self) -> Artifact:
        """What is executed."""
        return self._artifact

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Features of one input step, no time, no batch."""
        return self._features

    @property
    def batch_size(self) -> int | None:
        """B since the last reset; None before it, and while there must be another."""
        return self._life.batch

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

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over. What is refused changes nothing; what fails later leaves a runner that needs another reset.

        Args:
            batch_size: B, at least 1.
            state: name -> array to start from; None = the initial state.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if the state does not fit, or if the state that is left behind turns out to have overflowed in
                the last steps, so that their answers are void; another reset starts over.
        """
        with self._life.alone():
            batch = check_batch_size(batch_size)
            self._restart(batch, None if state is None else self._given(state, batch))

    def step(self, x: Any) -> np.ndarray[Any, Any]:
        """Advance by one step. The output and most of the state are looked at, larger state every 16 steps.

        Args:
            x: (B, *input_shape), float32 numpy.

        Returns:
            Output, (B, *features).

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
                self._check(x)
            np.copyto(self._x, x)
            if suspicious(self._flat_x):
                check_finite(x)
            if self._last is not None and life.steps >= self._last:
                check_horizon(life.steps, self._last)
            return self._advance().copy()

    def run(self, x: Any, *, reset: bool = True) -> np.ndarray[Any, Any]:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state.

        Returns:
            Output of every step, (T, B, *features). With a readout, `y[-1]` is the network's answer;
            with a latency of L, feed L silent steps more, and the first L rows are none.

        Raises:
            InputError, StateError, HorizonError: as `step`; what is refused is refused before the first step.
        """
        with self._life.alone():
            self._check_sequence(x)
            if reset:
                self._restart(x.shape[1], None)
            self._life.check(x.shape[1])
            check_horizon(self._life.steps, self._last, len(x))
            with self._life.moving():
                y = np.empty((len(x), *self._front().written.y.shape), TARGET.dtype)
                for t, x_t in enumerate(x):
                    np.copyto(self._x, x_t)
                    y[t] = self._advance()
                self._look()
            return y

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep what every neuron layer did. The runner's own state is not touched.

        The same graph, with the spikes, V and R of every neuron layer as further outputs.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: where to start; None = the initial state.

        Raises:
            InputError, StateError, HorizonError: as `run`; an overflow is said with its layer and step.
        """
        with self._life.alone():
            return self._trace(x, state)

    def _trace(self, x: Any, state: Mapping[str, Any] | None) -> Trace:
        self._check_sequence(x)
        batch = x.shape[1]
        now = {name: np.zeros(_shape(spec, batch), spec.dtype) for name, spec in self._spec.items()}
        if state is not None:
            now = self._given(state, batch)
            check_horizon(int(now.get(STEP, 0)), self._last, len(x))
        session, names = self._tracing_session()
        rows = []
        for x_t in x:
            results = dict(zip(names, session.run(names, {"x": x_t, **now}), strict=True))
            rows.append({"x": x_t, **now, **results})
            now = {s["name"]: results[s["output"]] for s in self._metadata["states"]}
        trace = _stack(rows, self._metadata["neurons"], self._decisions, now)
        check_trace(trace)
        return trace

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's graph and constants stand against what exporting a machine writes. Nothing runs."""
        return structure_of(parse_model(self._path, self._content), self._decisions, machine)

    def _restart(self, batch: int, state: Mapping[str, np.ndarray[Any, Any]] | None) -> None:
        if self._life.batch is not None:
            self._look()  # what is left behind was not looked at as a whole, and its answers were given
        with self._life.restarting(batch, self._features):
            if batch != self._bound:
                self._bind(batch)
            self._turn = 0
            for name, value in self._front().state.items():
                value[...] = 0 if state is None else state[name]
            self._life.steps = int(self._front().state[STEP]) if STEP in self._spec else 0

    def _advance(self) -> np.ndarray[Any, Any]:
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
        return written.y

    def _look(self) -> None:
        """Raise `StateError`, and need a reset, if what the last step wrote is not finite."""
        found = self._buffers[1 - self._turn].written.overflow() if self._life.steps > self._life.began else None
        if found is not None:
            name, at_once = found
            self._life.overflowed(name, None if at_once else max(self._life.began, self._life.steps - TURNS) + 1)

    def _given(self, state: Mapping[str, Any], batch: int) -> dict[str, np.ndarray[Any, Any]]:
        """A state that was given, checked."""
        check_state(state, self._spec, batch)
        return {name: numpy_state(name, state[name], spec.dtype) for name, spec in self._spec.items()}

    def _check_sequence(self, x: Any) -> None:
        if isinstance(x, torch.Tensor):
            raise InputError(_NUMPY_ONLY)
        check_sequence(x, self._features, self._artifact.horizon, _DTYPES)
        if self._artifact.static_input:
            check_static(x)

    def _check(self, x: Any) -> None:
        """Say what is wrong with one step's input; return if nothing is."""
        self._life.check()
        check_step(x, self._features, _DTYPES)
        if isinstance(x, torch.Tensor):
            raise InputError(_NUMPY_ONLY)
        self._life.check(len(x))

    def _front(self) -> _Direction:
        """The direction that reads the current state."""
        return self._buffers[self._turn]

    def _bind(self, batch: int) -> None:
        self._bound = None
        self._x = np.zeros((batch, *self._features), TARGET.dtype)
        self._flat_x = self._x.reshape(-1)
        blocks = [block(batch, tuple(self._metadata["output"]["shape"]), self._spec) for _ in range(2)]
        # onnxruntime shares the memory of numpy arrays on the CPU; _values keeps its handles alive.
        x = ort.OrtValue.ortvalue_from_numpy(self._x)
        ys = [ort.OrtValue.ortvalue_from_numpy(b.y) for b in blocks]
        values = [{n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in b.state.items()} for b in blocks]
        self._values = (x, ys, values)
        self._buffers = [
            _Direction(
                self._binding({"x": x, "y": ys[1 - turn]}, values[turn], values[1 - turn]),
                blocks[turn].state,
                blocks[1 - turn],
            )
            for turn in range(2)
        ]
        self._bound = batch

    def _binding(self, ends: dict[str, Any], read: dict[str, Any], write: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("x", ends["x"])
        binding.bind_ortvalue_output("y", ends["y"])
        for state in self._metadata["states"]:
            binding.bind_ortvalue_input(state["input"], read[state["name"]])
            binding.bind_ortvalue_output(state["output"], write[state["name"]])
        return binding

    def _tracing_session(self) -> tuple[Any, list[str]]:
        model = parse_model(self._path, self._content)
        outputs = [output.name for output in model.graph.output]
        inputs = [i.name for i in model.graph.input]
        neurons = self._metadata["neurons"].values()
        wanted = [neuron[key] for neuron in neurons for key in ("spikes", "potential", "reset") if neuron[key]]
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
    rows: list[dict[str, Any]], neurons: Mapping[str, Any], decisions: Mapping[str, Decision], state: dict[str, Any]
) -> Trace:
    """Rows of named values, one per step, as a trace; margins are of what the graph itself compares."""

    def column(name: str) -> np.ndarray[Any, Any]:
        return np.stack([row[name] for row in rows])

    trace = Trace(column("y"), state=state)
    for layer, names in neurons.items():
        trace.spikes[layer] = column(names["spikes"])
        trace.potential[layer] = column(names["potential"])
        has_reset = names["reset"] is not None
        trace.reset[layer] = column(names["reset"]) if has_reset else np.zeros_like(trace.potential[layer])
        trace.margin[layer] = column(decisions[layer].value) - np.float32(decisions[layer].threshold)
    return trace
