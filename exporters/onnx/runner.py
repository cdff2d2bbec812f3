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

from psu_deploy.errors import InputError, StateError
from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.file import artifact_of, open_session, parse_model, read_bytes, read_decisions
from psu_deploy.exporters.onnx.metadata import read_metadata
from psu_deploy.exporters.onnx.structure import structure_of
from psu_deploy.exporters.onnx.target import TARGET
from psu_deploy.machine import StateMachine, StateTensor, Trace
from psu_deploy.machine.graph import STEP, check_state
from psu_deploy.machine.inputs import (
    check_batch_size,
    check_horizon,
    check_reset,
    check_samples,
    check_sequence,
    check_static,
    check_step,
)
from psu_deploy.runtime import Artifact, Structure

_DTYPES = (TARGET.dtype,)
_FLOAT = np.dtype(TARGET.dtype)
_FINITE = np.isfinite
_NUMPY_ONLY = "an ONNX runner takes numpy; convert with x.numpy()"


class _Buffers(NamedTuple):
    """One direction of a step: what is bound, and where its results lie."""

    binding: Any
    state: dict[str, np.ndarray[Any, Any]]


class OnnxRunner:
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
        self._steps = 0
        self._last = self._artifact.horizon
        self._batch: int | None = None
        self._step_shape: tuple[int, ...] | None = None

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
        """B since the last reset; None before it."""
        return self._batch

    @property
    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of the current state, name -> array (B, *shape).

        Raises:
            StateError: before the first reset.
        """
        check_reset(self._batch)
        return {name: value.copy() for name, value in self._front().state.items()}

    def reset(self, batch_size: int = 1, state: Mapping[str, Any] | None = None) -> None:
        """Start over.

        Args:
            batch_size: B, at least 1.
            state: name -> array to start from; None = the initial state.

        Raises:
            InputError: if batch_size is not a whole number >= 1.
            StateError: if the state does not fit.
        """
        check_batch_size(batch_size)
        if state is not None:
            _check_given(state, self._spec, batch_size)
        if batch_size != self._batch:
            self._bind(batch_size)
        self._turn = 0
        for name, value in self._front().state.items():
            value[...] = 0 if state is None else state[name]
        self._steps = int(self._front().state[STEP]) if STEP in self._spec else 0

    def step(self, x: Any) -> np.ndarray[Any, Any]:
        """Advance by one step.

        Args:
            x: (B, *input_shape), float32 numpy.

        Returns:
            Output, (B, *features).

        Raises:
            InputError: wrong shape or dtype, or NaN.
            StateError: before the first reset, or if B is not that of the last reset.
            HorizonError: no such step.
        """
        # One test for the good case: Python's share of a step is what a small network feels.
        if type(x) is not np.ndarray or x.shape != self._step_shape or x.dtype is not _FLOAT or not _FINITE(x).all():
            self._check(x)
        if self._last is not None and self._steps >= self._last:
            check_horizon(self._steps, self._artifact.horizon)
        np.copyto(self._x, x)
        buffers = self._buffers[self._turn]
        self._session.run_with_iobinding(buffers.binding)
        self._turn = 1 - self._turn
        self._steps += 1
        return self._y.copy()

    def run(self, x: Any, *, reset: bool = True) -> np.ndarray[Any, Any]:
        """Run a sequence.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            reset: start over; False goes on from the current state.

        Returns:
            Output of every step, (T, B, *features). With a readout, `y[-1]` is the network's answer;
            with a latency of L, feed L silent steps more, and the first L rows are none.
        """
        self._check_sequence(x)
        if reset:
            self.reset(x.shape[1])
        return np.stack([self.step(x_t) for x_t in x])

    def trace(self, x: Any, state: Mapping[str, Any] | None = None) -> Trace:
        """Run a sequence on its own and keep what every neuron layer did. The runner's own state is not touched.

        The same graph, with the spikes, V and R of every neuron layer as further outputs.

        Args:
            x: (T, B, *input_shape), float32 numpy.
            state: where to start; None = the initial state.
        """
        self._check_sequence(x)
        if isinstance(x, torch.Tensor):
            raise InputError(_NUMPY_ONLY)
        batch = x.shape[1]
        now = {name: np.zeros(_shape(spec, batch), spec.dtype) for name, spec in self._spec.items()}
        if state is not None:
            _check_given(state, self._spec, batch)
            check_horizon(int(state.get(STEP, 0)) + len(x) - 1, self._artifact.horizon)
            now = {name: np.asarray(state[name], dtype=value.dtype) for name, value in now.items()}
        session, names = self._tracing_session()
        rows = []
        for x_t in x:
            results = dict(zip(names, session.run(names, {"x": x_t, **now}), strict=True))
            rows.append({"x": x_t, **now, **results})
            now = {s["name"]: results[s["output"]] for s in self._metadata["states"]}
        return _stack(rows, self._metadata["neurons"], self._decisions, now)

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's graph and constants stand against what exporting a machine writes. Nothing runs."""
        return structure_of(parse_model(self._path, self._content), self._decisions, machine)

    def _check_sequence(self, x: Any) -> None:
        check_sequence(x, self._features, self._artifact.horizon, _DTYPES)
        if self._artifact.static_input:
            check_static(x)

    def _check(self, x: Any) -> None:
        """Say what is wrong with one step's input; return if nothing is."""
        check_reset(self._batch)
        check_step(x, self._features, _DTYPES)
        if isinstance(x, torch.Tensor):
            raise InputError(_NUMPY_ONLY)
        check_samples(len(x), self._batch)

    def _front(self) -> _Buffers:
        """The buffers that hold the current state, and the binding that reads them."""
        return self._buffers[self._turn]

    def _bind(self, batch: int) -> None:
        self._x = np.zeros((batch, *self._features), TARGET.dtype)
        self._y = np.zeros((batch, *self._metadata["output"]["shape"]), TARGET.dtype)
        states = [{n: np.zeros(_shape(s, batch), s.dtype) for n, s in self._spec.items()} for _ in range(2)]
        # onnxruntime shares the memory of numpy arrays on the CPU; _values keeps its handles alive.
        values = [{n: ort.OrtValue.ortvalue_from_numpy(v) for n, v in state.items()} for state in states]
        ends = {"x": ort.OrtValue.ortvalue_from_numpy(self._x), "y": ort.OrtValue.ortvalue_from_numpy(self._y)}
        self._values = (values, ends)
        self._buffers = [
            _Buffers(self._binding(ends, values[turn], values[1 - turn]), states[turn]) for turn in range(2)
        ]
        self._turn = 0
        self._batch = batch
        self._step_shape = self._x.shape

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


def _check_given(state: Mapping[str, Any], spec: Mapping[str, StateTensor], batch: int) -> None:
    check_state(state, spec, batch)
    for name, value in state.items():
        if not np.isfinite(np.asarray(value)).all():
            raise StateError(f"state {name!r} holds NaN or infinity")


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
