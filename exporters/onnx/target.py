"""What ONNX files of ours use, and where they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OnnxTarget:
    """The dialect.

    Args:
        opset: of the default domain; all operators below exist in it with the meaning used here.
        ir_version: oldest file format that carries this opset, so that old runtimes load it.
        dtype: of input, output, parameters and state.
        batch: name of the dynamic axis.
    """

    opset: int = 18
    ir_version: int = 8
    dtype: str = "float32"
    batch: str = "batch"


TARGET = OnnxTarget()

SUFFIX = ".onnx"

PREFIX = "psu_deploy."
"""Of every metadata key."""
