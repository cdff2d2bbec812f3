"""What a runner of an ONNX file knows of it, whether the file holds one step or a sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.contents import contents_of
from psu_deploy.exporters.onnx.decisions import Decision
from psu_deploy.exporters.onnx.file import open_session, parse_model, read_bytes, read_decisions
from psu_deploy.exporters.onnx.metadata import OnnxHeader, header_of
from psu_deploy.exporters.onnx.rounding import rounded
from psu_deploy.exporters.onnx.sequence import step_of
from psu_deploy.exporters.onnx.structure import structure_of
from psu_deploy.machine import StateMachine, StateTensor, Trace
from psu_deploy.machine.graph import check_state
from psu_deploy.machine.inputs import numpy_state
from psu_deploy.machine.trace import sole
from psu_deploy.runtime import Structure
from psu_deploy.runtime.contents import Contents
from psu_deploy.runtime.engine_runner import EngineRunner

Array = np.ndarray[Any, Any]


class OnnxFile(NamedTuple):
    """A file that was checked. What runs is what was checked, whatever becomes of the file.

    Attributes:
        path: where it was.
        content: all of it.
        header: what it says of itself.
        decisions: neuron layer -> how it decides.
    """

    path: Path
    content: bytes
    header: OnnxHeader
    decisions: dict[str, Decision]

    def model(self) -> onnx.ModelProto:
        """As it is written."""
        return parse_model(self.path, self.content)

    def step(self) -> onnx.ModelProto:
        """Of one step."""
        return step_of(self.model()) if self.header.sequence else self.model()


def open_file(path: str | Path) -> OnnxFile:
    """Read and check a file.

    Raises:
        ArtifactError: if it is missing, damaged or not ours.
    """
    source = Path(path)
    content = read_bytes(source)
    model = parse_model(source, content)
    header = header_of(source, model)
    step = step_of(model) if header.sequence else model
    return OnnxFile(source, content, header, read_decisions(source, step, header.neurons))


class GraphRunner(EngineRunner):
    """Base of both.

    Args:
        file: its path, or what was read of it.
        threads: of onnxruntime; None = its own choice. One is best for small networks at batch 1.

    Raises:
        ArtifactError: if the file is missing, damaged, not ours, or of the other kind.
    """

    called = "an ONNX runner"
    takes_sequences = False

    def __init__(self, file: str | Path | OnnxFile, *, threads: int | None = None) -> None:
        self._file = file if isinstance(file, OnnxFile) else open_file(file)
        self._header = self._file.header
        if self._header.sequence != self.takes_sequences:
            raise ArtifactError(f"{self._file.path} holds another kind of graph; open it with psu_deploy.load(path)")
        super().__init__(self._file.path, self._header)
        self._threads = threads
        self._session = open_session(self._path, self._file.content, threads)
        self._spec = {s.name: StateTensor(s.shape, s.dtype, s.batched) for s in self._header.states}

    @property
    def contents(self) -> Contents:
        """Neuron layers, and the operators around them."""
        return contents_of(self._file.step(), self._header, self._file.decisions)

    def structure(self, machine: StateMachine) -> Structure:
        """How the file's graph and constants stand against what exporting a machine writes. Nothing runs."""
        return structure_of(self._file.step(), self._file.decisions, machine)

    @property
    def rounds(self) -> bool:
        """Whether its weights are rounded."""
        return self._header.weights != "float32"

    def stand_in(self, machine: StateMachine) -> StateMachine:
        """The network with the weights that the file of it holds."""
        return rounded(machine, self._header.weights)

    def _given(self, state: Mapping[str, Any] | None, batch: int) -> dict[str, Array] | None:
        if state is None:
            return None
        check_state(state, self._spec, batch)
        return {name: numpy_state(name, state[name], spec.dtype) for name, spec in self._spec.items()}

    def _zeros(self, batch: int) -> dict[str, Array]:
        """The initial state."""
        shapes = {name: (batch, *s.shape) if s.batched else () for name, s in self._spec.items()}
        return {name: np.zeros(shape, self._spec[name].dtype) for name, shape in shapes.items()}

    def _watched(self) -> list[str]:
        """What a trace needs to know of the inside."""
        names = [n for one in self._header.neurons.values() for n in (one.spikes, one.potential, one.reset) if n]
        return [*dict.fromkeys([*names, *(decision.value for decision in self._file.decisions.values())])]

    def _as_trace(self, column: Callable[[str], Array], state: dict[str, Array]) -> Trace:
        """Values by name, one row a step, as a trace; margins are of what the graph itself compares."""
        trace = Trace(sole({end.name: column(end.value) for end in self._header.ends}), state=state)
        for layer, names in self._header.neurons.items():
            decision = self._file.decisions[layer]
            trace.spikes[layer] = column(names.spikes)
            trace.potential[layer] = potential = column(names.potential)
            trace.reset[layer] = np.zeros_like(potential) if names.reset is None else column(names.reset)
            trace.margin[layer] = column(decision.value) - np.float32(decision.threshold)
        return trace
