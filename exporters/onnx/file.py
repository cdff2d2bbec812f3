"""What an exported ONNX file says of itself, and the session that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from psu_deploy.errors import ArtifactError, EngineError, InputError
from psu_deploy.exporters.onnx.decisions import Decision, UndecidedError, decisions_of
from psu_deploy.exporters.onnx.metadata import NeuronNames
from psu_deploy.exporters.onnx.wire import structure_bytes
from psu_deploy.files.limits import OBJECT, check_memory, memory_for, regular_size

_ERRORS: tuple[type[Exception], ...] = tuple(
    found for found in vars(ort_errors).values() if isinstance(found, type) and issubclass(found, Exception)
)
"""All that onnxruntime has names for."""

_REFUSALS: tuple[type[Exception], ...] = (
    *_ERRORS,
    RuntimeError,
    UnicodeDecodeError,
)  # the last: a damaged name, on its way into a message
_MOST_THREADS = 1024

_QUIET = 3
"""onnxruntime's log level: errors only."""


def read_bytes(path: Path) -> bytes:
    """Content of a file."""
    regular_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def parse_model(path: Path, content: bytes) -> onnx.ModelProto:
    """The content of a file as a protobuf. Data in other files are not looked for: metadata.py refuses them."""
    if not content:
        raise ArtifactError(f"{path} is empty; export it again")
    structure = structure_bytes(content, memory_for(len(content)) // OBJECT)
    check_memory(OBJECT * structure, len(content), f"{path}: its graph, more than {structure} bytes without weights,")
    try:
        return onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ArtifactError(f"{path} is truncated or is not an ONNX file: {error}") from error


def read_decisions(path: Path, model: onnx.ModelProto, neurons: Mapping[str, NeuronNames]) -> dict[str, Decision]:
    """How every neuron layer decides, as the graph has it.

    Raises:
        ArtifactError: if the spikes of a layer are no outcome of a comparison.
    """
    try:
        return decisions_of(model.graph, neurons)
    except UndecidedError as error:
        raise ArtifactError(f"{path} is not a step graph of ours: {error}; export it again") from error


class _Session(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session whose engine fails in one sentence."""

    path = Path()

    def run(self, *arguments: Any) -> Any:
        try:
            return super().run(*arguments)
        except _REFUSALS as error:
            raise self._failed(error) from error

    def run_with_iobinding(self, *arguments: Any) -> None:
        try:
            super().run_with_iobinding(*arguments)
        except _REFUSALS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> EngineError:
        reason = str(error).partition("\n")[0]
        return EngineError(f"{self.path}: onnxruntime {ort.__version__} failed while it ran the network: {reason}")


def open_session(path: Path, model: bytes, threads: int | None) -> ort.InferenceSession:
    """An onnxruntime session on the CPU.

    Args:
        path: for the error message.
        model: serialised model.
        threads: None = onnxruntime's own choice.

    Raises:
        InputError: if threads is not a whole number in 1..1024.
        ArtifactError: if onnxruntime refuses the model.
    """
    if threads is not None and (type(threads) is not int or not 1 <= threads <= _MOST_THREADS):
        raise InputError(f"threads must be a whole number in 1..{_MOST_THREADS}, got {threads!r}")
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        session = _Session(model, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{path} is damaged, or onnxruntime {ort.__version__} cannot run it: {reason}") from error
    session.path = path
    return session
