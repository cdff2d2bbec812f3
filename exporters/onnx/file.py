"""What an exported ONNX file says of itself, and the session that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.onnx.decisions import Decision, UndecidedError, decisions_of
from psu_deploy.exporters.onnx.metadata import read_metadata
from psu_deploy.runtime import Artifact

_REFUSALS = (
    *(ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.InvalidArgument),
    UnicodeDecodeError,  # a damaged name, on its way into onnxruntime's own message
)
_QUIET = 3
"""onnxruntime's log level: errors only."""


def read_bytes(path: Path) -> bytes:
    """Content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def read_model(path: Path) -> onnx.ModelProto:
    """The file as a protobuf."""
    return parse_model(path, read_bytes(path))


def parse_model(path: Path, content: bytes) -> onnx.ModelProto:
    """The content of a file as a protobuf."""
    try:
        return onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ArtifactError(f"{path} is truncated or is not an ONNX file: {error}") from error


def read_artifact(path: str | Path) -> Artifact:
    """What an exported file promises.

    Raises:
        ArtifactError: if the file is missing, damaged or not ours.
    """
    source = Path(path)
    return artifact_of(source, read_metadata(source, read_model(source)))


def read_decisions(path: Path, model: onnx.ModelProto, metadata: Mapping[str, Any]) -> dict[str, Decision]:
    """How every neuron layer decides, as the graph has it.

    Raises:
        ArtifactError: if the spikes of a layer are no outcome of a comparison.
    """
    try:
        return decisions_of(model.graph, metadata["neurons"])
    except UndecidedError as error:
        raise ArtifactError(f"{path} is not a step graph of ours: {error}; export it again") from error


def artifact_of(path: Path, metadata: Mapping[str, Any]) -> Artifact:
    """An artifact from decoded metadata."""
    return Artifact(
        path=path,
        target="onnx",
        fidelity=metadata["fidelity"],
        machine_hash=metadata["machine_hash"],
        horizon=metadata["horizon"],
        latency=metadata["latency"],
        static_input=metadata["static_input"],
        versions=metadata["versions"],
        approximations=tuple(metadata["approximations"]),
    )


def open_session(path: Path, model: bytes, threads: int | None) -> ort.InferenceSession:
    """An onnxruntime session on the CPU.

    Args:
        path: for the error message.
        model: serialised model.
        threads: None = onnxruntime's own choice.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path} is damaged, or onnxruntime {ort.__version__} cannot run it: {reason}") from error
