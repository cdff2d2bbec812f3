"""What ONNX files of ours use, and where they run."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.exporters.target import Option, Target


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

ONNX = Target(
    name="onnx",
    title="ONNX",
    suffix=SUFFIX,
    export="psu_deploy.exporters.onnx.export:export",
    load="psu_deploy.exporters.onnx.runner:load",
    extra="onnx",
    needs=("onnx", "onnx_ir", "onnxruntime"),
    packages={"onnx": "onnx", "onnx-ir": "onnx_ir", "onnxruntime": "onnxruntime"},
    options=(
        Option("threads", ("run",), "of onnxruntime; default: its own choice.", int, within=(1, 1024)),
        Option(
            "events",
            ("export",),
            "layers on spikes read the weights of what fired only: auto (where that is faster), on or off.",
            default="auto",
        ),
        Option("sequence", ("export",), "a call runs a whole sequence instead of one step.", bool),
        Option("weights", ("export",), "stored as float32, or rounded to float16 or int8.", default="float32"),
    ),
)
