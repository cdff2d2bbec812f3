"""Runs an exported sequence in onnxruntime: all steps of a call at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from psu_deploy.exporters.onnx.file import open_session
from psu_deploy.exporters.onnx.graph_runner import Array, GraphRunner
from psu_deploy.exporters.onnx.sequence import watched
from psu_deploy.machine import Trace
from psu_deploy.machine.inputs import check_horizon
from psu_deploy.machine.overflow import THE_OUTPUT, check_trace, first_overflow
from psu_deploy.machine.schedule import INPUT, STEP
from psu_deploy.machine.trace import sole

_WATCHED = "psu_deploy.watched "


class SequenceRunner(GraphRunner):
    """Runs an exported network over sequences, each in one call of onnxruntime.

    A sequence may come in parts, of any lengths: the state is handed on. All outputs, and the state after the last
    step, are looked at after every call.

    Args:
        file: path of a file written by `psu_deploy.export(..., target="onnx", sequence=True)`.
        threads: of onnxruntime; None = its own choice. One is best for small networks at batch 1.

    Raises:
        ArtifactError: if the file is missing, damaged, not ours, or holds a single step.
    """

    takes_sequences = True

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the current state, name -> array (B, *shape).

        Raises:
            StateError: before the first reset, or if a state has overflowed.
        """
        with self._life.alone():
            self._life.check()
            return {name: value.copy() for name, value in self._now.items()}

    def step(self, x: Any) -> Any:
        """A sequence of one step; see `EngineRunner.step`. Returns name -> output where there are several."""
        with self._life.alone():
            self._check_step(x)
            y = self._go_on(x[None])
            return {name: rows[0] for name, rows in y.items()} if isinstance(y, dict) else y[0]

    def _start(self, batch: int, state: Mapping[str, Array] | None) -> int:
        self._now = self._zeros(batch) | dict(state or {})
        return int(self._now.get(STEP, 0))

    def _advance(self, x: Array) -> Any:
        before = self._life.steps
        names = [end.value for end in self._header.ends]
        states = [state.output for state in self._header.states]
        results = self._session.run([*names, *states], {INPUT: x, **self._now})
        ys = {end.name: y for end, y in zip(self._header.ends, results, strict=False)}
        self._now = dict(zip(self._spec, results[len(names) :], strict=True))
        self._life.steps += len(x)
        for y in ys.values():
            self._check_output(y)
        left = first_overflow([*self._now.items(), *((THE_OUTPUT, y[-1]) for y in ys.values())])
        if left is not None:
            self._life.overflowed(left, before + 1)
        return sole(ys)

    def _trace(self, x: Array, state: Mapping[str, Array] | None) -> Trace:
        """The same graph, with the spikes, V and R of every neuron layer as further outputs."""
        now = self._zeros(x.shape[1]) | dict(state or {})
        check_horizon(int(now.get(STEP, 0)), self._last, len(x))
        model = self._file.model()
        names = watched(model, {name: f"{_WATCHED}{name}" for name in self._watched()})
        session = open_session(self._path, model.SerializeToString(), self._threads)
        found = dict(zip(names, session.run(names, {INPUT: x, **now}), strict=True))
        last = {state.name: found[state.output] for state in self._header.states}
        trace = self._as_trace(lambda name: np.asarray(found.get(f"{_WATCHED}{name}", found.get(name))), last)
        check_trace(trace)
        return trace
